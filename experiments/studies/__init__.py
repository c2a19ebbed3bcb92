"""Every study by name."""

from .first_step import FIRST_STEP_STUDIES
from .flows import FLOW_STUDIES
from .lv_lifetime import LV_LIFETIME_STUDIES
from .mean_field import MEAN_FIELD_STUDIES
from .optimal_rates import OPTIMAL_RATE_STUDIES
from .optimal_ratio import OPTIMAL_RATIO
from .race import RACE
from .study import Study as Study
from .transfer_coverage import TRANSFER_COVERAGE_STUDIES
from .transfer_networks import TRANSFER_NETWORKS
from .transfer_theory import TRANSFER_THEORY_STUDIES
from .update_magnitude import UPDATE_MAGNITUDE_STUDIES

STUDIES = {
    study.name: study
    for study in (
        *FIRST_STEP_STUDIES,
        *LV_LIFETIME_STUDIES,
        *FLOW_STUDIES,
        *OPTIMAL_RATE_STUDIES,
        *MEAN_FIELD_STUDIES,
        *TRANSFER_COVERAGE_STUDIES,
        *TRANSFER_THEORY_STUDIES,
        *UPDATE_MAGNITUDE_STUDIES,
        OPTIMAL_RATIO,
        RACE,
        TRANSFER_NETWORKS,
    )
}
