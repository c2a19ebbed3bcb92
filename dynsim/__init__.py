"""dynsim: infinite-width training dynamics, from symbolic first steps to trained networks.

Names are imported when first used, so that `dynsim --help` and the token laws need no jax.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
