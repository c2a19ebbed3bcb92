from ._records import read_records as read_records
from ._torch import CoordinateRecorder as CoordinateRecorder
