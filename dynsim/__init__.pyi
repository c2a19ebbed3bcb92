from ._corpus import CorpusTokens as CorpusTokens
from ._corpus import corpus_tokens as corpus_tokens
from ._errors import InputError as InputError
from ._network import TokenUpdates as TokenUpdates
from ._network import Training as Training
from ._network import token_updates as token_updates
from ._network import train as train
from ._precision import require_x64 as require_x64
from ._setup import Setup as Setup
from ._targets import targets as targets
from ._token_laws import TokenLaw as TokenLaw
from ._token_laws import ZipfFit as ZipfFit
from ._token_laws import token_law as token_law

__version__: str
