"""The table of degraded modes points at what there is."""

from pathlib import Path

import pytest

from pqvpn.resilience.degradation import Mode

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
def test_its_places_exist(mode: Mode) -> None:
    assert (ROOT / "pqvpn" / mode.where).is_file()
    assert (ROOT / mode.proof).is_file()


def test_security_is_given_up_by_an_operators_hand_only() -> None:
    weaker = [mode for mode in Mode if "secrecy" in mode.given_up]
    assert weaker == [Mode.AUTH_PLAINTEXT]
    assert "operator armed" in Mode.AUTH_PLAINTEXT.fails
