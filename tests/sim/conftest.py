"""Options of the simulation: `--sim-seed N` runs one seed again, PQVPN_SIM_RUNS=N runs more or fewer of them."""

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
    one = metafunc.config.getoption("--sim-seed")
    if one is not None:
        blocks = [[one]]
    else:
        runs, size = int(os.environ.get("PQVPN_SIM_RUNS", DEFAULT_RUNS)), 50
        blocks = [list(range(i, min(i + size, runs))) for i in range(0, runs, size)]
    metafunc.parametrize("sim_seeds", blocks, ids=[f"{b[0]}-{b[-1]}" for b in blocks])
