"""Every claim by name."""

from .claim import Claim as Claim
from .claim import Evidence as Evidence
from .first_step import FIRST_STEP_CLAIMS
from .flows import FLOW_CLAIMS
from .lv_lifetime import LV_LIFETIME_CLAIMS
from .mean_field import MEAN_FIELD_CLAIMS
from .optimal_rates import OPTIMAL_RATE_CLAIMS
from .optimal_ratio import OPTIMAL_RATIO_CLAIMS
from .race import RACE_CLAIMS
from .transfer_networks import TRANSFER_NETWORK_CLAIMS
from .transfer_theory import TRANSFER_THEORY_CLAIMS
from .update_magnitude import UPDATE_MAGNITUDE_CLAIMS

CLAIMS = {
    claim.name: claim
    for claim in (
        *FIRST_STEP_CLAIMS,
        *LV_LIFETIME_CLAIMS,
        *FLOW_CLAIMS,
        *OPTIMAL_RATE_CLAIMS,
        *MEAN_FIELD_CLAIMS,
        *UPDATE_MAGNITUDE_CLAIMS,
        *OPTIMAL_RATIO_CLAIMS,
        *RACE_CLAIMS,
        *TRANSFER_NETWORK_CLAIMS,
        *TRANSFER_THEORY_CLAIMS,
    )
}
