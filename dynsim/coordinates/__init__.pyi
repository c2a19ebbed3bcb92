from ._alignment import MeasuredAlignment as MeasuredAlignment
from ._check import CoordinateCheck as CoordinateCheck
from ._check import check_coordinates as check_coordinates
from ._powers import parametrization_powers as parametrization_powers
from ._records import read_records as read_records
from ._torch import CoordinateRecorder as CoordinateRecorder
