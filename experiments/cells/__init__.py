"""Cells: units of work whose results are kept one by one, so that an interruption loses little.

`store` keeps finished cells in a folder, `executors` says where cells are computed, `complete`
computes those that the folder lacks. Sweeps, studies and coordinate checks are built on these.
"""
