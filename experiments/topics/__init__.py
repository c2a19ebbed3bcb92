"""Topics: what dynsim measures, one folder each.

A topic's folder holds `study.py` (what is measured), `claims.py` (what is asserted of it) and
`figures.py` (how it is drawn), as far as it has them; they define `STUDIES`, `CLAIMS`, `FIGURES`.
"""
