"""The first step: update magnitudes, exponents and optimal rates against derived moments."""
