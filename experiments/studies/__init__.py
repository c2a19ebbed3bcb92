"""Every study by name."""

from .first_step import FIRST_STEP_STUDIES
from .study import Study as Study

STUDIES = {study.name: study for study in FIRST_STEP_STUDIES}
