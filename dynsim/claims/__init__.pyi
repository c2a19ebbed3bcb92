from ._verdict import Evidence as Evidence
from ._verdict import Verdict as Verdict
from ._verdict import judged as judged
