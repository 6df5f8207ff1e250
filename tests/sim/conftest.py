"""Options of the simulation: one seed again with `--sim-seed N` (pytest tests/sim) or PQVPN_SIM_SEED=N (anywhere),
PQVPN_SIM_RUNS=N for more or fewer runs."""

import os

import pytest

DEFAULT_RUNS = 1000


def pytest_addoption(parser: pytest.Parser) -> None:
    """One seed instead of all."""
    parser.addoption("--sim-seed", type=int, default=None, help="simulate this seed only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Seeds come in blocks, so that a run is not thousands of test reports."""
    if "sim_seeds" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("sim_seed", default=None)  # unknown unless this folder was named
    one = int(os.environ["PQVPN_SIM_SEED"]) if "PQVPN_SIM_SEED" in os.environ else chosen
    if one is not None:
        blocks = [[one]]
    else:
        runs, size = int(os.environ.get("PQVPN_SIM_RUNS", DEFAULT_RUNS)), 50
        blocks = [list(range(i, min(i + size, runs))) for i in range(0, runs, size)]
    metafunc.parametrize("sim_seeds", blocks, ids=[f"{b[0]}-{b[-1]}" for b in blocks])
