"""Every claim by name."""

from .claim import Claim as Claim
from .claim import Evidence as Evidence
from .first_step import FIRST_STEP_CLAIMS

CLAIMS = {claim.name: claim for claim in FIRST_STEP_CLAIMS}
