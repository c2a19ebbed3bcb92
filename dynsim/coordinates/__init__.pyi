from ._alignment import MeasuredAlignment as MeasuredAlignment
from ._alignment import stability_alignment as stability_alignment
from ._check import CoordinateCheck as CoordinateCheck
from ._check import check_coordinates as check_coordinates
from ._check import recorded_alignment as recorded_alignment
from ._powers import parametrization_powers as parametrization_powers
from ._records import read_records as read_records
from ._torch import CoordinateRecorder as CoordinateRecorder
