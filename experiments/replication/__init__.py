"""The replication study: every claim measured again on random numbers that nobody has seen.

`python -m experiments.replication` measures; `shares` says what the verdicts come to.
"""
