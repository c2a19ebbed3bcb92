from ._metrics import TRANSFER_PARAMETERS as TRANSFER_PARAMETERS
from ._metrics import Transfer as Transfer
from ._metrics import TransferParameter as TransferParameter
from ._metrics import WidthCurve as WidthCurve
from ._metrics import asymptotic_penalties as asymptotic_penalties
from ._metrics import fit_transfer as fit_transfer
from ._metrics import loss_penalties as loss_penalties
