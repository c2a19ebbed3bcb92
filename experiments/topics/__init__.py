"""Topics: what dynsim measures, one folder each.

A topic's folder holds these files, as far as it needs them:

- `study.py`: what is measured, without any theory; defines `STUDIES`.
- `estimators.py`: numbers and evidence as functions of a stored study, beside theory.
- `claims.py`: what is asserted of them; defines `CLAIMS`.
- `figures.py`: how they are drawn; defines `FIGURES`.

Its page is `docs/topics/<topic>.md`. A new folder is found without being listed anywhere.
"""
