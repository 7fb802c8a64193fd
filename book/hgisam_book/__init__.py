"""Code that only the book needs, on top of the core `hgisam`.

`studies` has the experiments of the chapters, `figures` their plotly figures, `ledger` the published claims and their
verdicts, `recorded` the recorded runs and benchmarks, `benchmarks` the measurements of speed and memory. `report`
formats tables and notes of the notebooks, `parameters` validates their parameters, `cli` adds commands to `hgisam`.
"""
