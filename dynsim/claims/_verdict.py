"""The rule of the verdict, which stands with the statistics that it judges."""

from dynsim.statistics._verdict import Evidence as Evidence
from dynsim.statistics._verdict import Verdict as Verdict
from dynsim.statistics._verdict import doubts as doubts
from dynsim.statistics._verdict import judged as judged
from dynsim.statistics._verdict import seeds_enough as seeds_enough
