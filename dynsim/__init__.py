"""dynsim: infinite-width training dynamics, from symbolic first steps to trained networks.

Names are imported when first used, so that `dynsim --help` and the token laws need no jax.
"""

from ._lazy import attach

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = attach(__name__, __file__)
