"""How often the transfer fits' intervals hold the truth, on surfaces of known truth."""
