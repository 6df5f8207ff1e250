"""Chaos: two real nodes in namespaces, a closed table of faults, and what has to hold after each of them.

    python -m lab.chaos --list                      # the table
    python -m lab.chaos --seed 7 --for 2h           # faults at random, until one invariant does not hold

`table.py` lists the faults; each stands in `processes.py`, `machine.py`, `network.py` or `dependencies.py` as a context
manager that does it and takes it back. `scene.py` is where it happens, `invariants.py` what is measured afterwards,
`run.py` the order of events of one fault and the random sequence. `make chaos` and tests/chaos/ use the same.
"""
