"""Every fuzz target on its corpus and on a fixed number of mutations, the same on each run; `make fuzz` runs them for long."""

import pytest

from tests.fuzz import driver


@pytest.mark.parametrize("name", driver.names())
def test_target_holds_its_invariant(name: str) -> None:
    inputs = getattr(driver.load(name), "SHORT_RUN", 3000)
    assert driver.replay(name, seed=1, inputs=inputs) == inputs


@pytest.mark.parametrize("name", driver.names())
def test_target_says_what_it_guards(name: str) -> None:
    target = driver.load(name)
    assert target.__doc__
    assert target.__doc__.splitlines()[0].startswith("Invariant: ")
    assert 1 <= len(driver.corpus(name)) <= 24


def test_a_broken_invariant_names_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes) -> None:
        if len(data) > 20:
            raise ValueError("too long for me")

    monkeypatch.setattr(driver.load("bech32m"), "check", check)
    with pytest.raises(driver.BrokenInvariantError, match="ValueError: too long for me") as caught:
        driver.replay("bech32m", seed=1, inputs=1000)
    assert caught.value.data.hex() in str(caught.value)


def test_the_same_seed_makes_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[bytes]] = []
    for seed in (1, 1, 2):
        seen: list[bytes] = []
        monkeypatch.setattr(driver.load("bech32m"), "check", seen.append)
        driver.replay("bech32m", seed=seed, inputs=200)
        runs.append(seen)
    assert runs[0] == runs[1] != runs[2]
