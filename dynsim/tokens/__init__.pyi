from ._corpus import CorpusTokens as CorpusTokens
from ._corpus import corpus_tokens as corpus_tokens
from ._counts import read_counts as read_counts
from ._laws import TokenLaw as TokenLaw
from ._laws import ZipfFit as ZipfFit
from ._laws import check_law_name as check_law_name
from ._laws import token_law as token_law
