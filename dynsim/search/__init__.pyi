from ._optimal_rates import OptimalRates as OptimalRates
from ._optimal_rates import optimal_rates as optimal_rates
