"""What is measured on one accelerator within less than half an hour, in slices that resume.

`python -m benchmarks.campaign --out FOLDER`; docs/guides/campaign.md says how. `items` says what is
measured and in which order, `running` how cells are chosen, kept and packed, `throughput` and
`agreement` are two of the measurements; the others are studies of `experiments`.
"""
