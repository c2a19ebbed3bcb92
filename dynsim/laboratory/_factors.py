"""A parametrization in numbers, which theory reads too: public here, defined beside `Setup`."""

from dynsim._scales import Scales as Scales
from dynsim._scales import grid_factors as grid_factors
from dynsim._scales import learning_rate_factors as learning_rate_factors
from dynsim._scales import scales as scales
from dynsim._scales import training_optimizer as training_optimizer
