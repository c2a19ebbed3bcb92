from ._metrics import fit_transfer as fit_transfer
from ._penalties import asymptotic_penalties as asymptotic_penalties
from ._penalties import loss_penalties as loss_penalties
from ._results import TRANSFER_PARAMETERS as TRANSFER_PARAMETERS
from ._results import Transfer as Transfer
from ._results import TransferParameter as TransferParameter
from ._results import WidthCurve as WidthCurve
