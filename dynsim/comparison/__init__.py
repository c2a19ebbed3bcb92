"""One setup by every route to its dynamics: networks, mean field, flow, linearised dynamics."""
