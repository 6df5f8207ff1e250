"""Under `mask` not even the control socket shows an address; otherwise an operator who may ask sees them."""

import json

import pytest
from netparty import INNER4, OUTER4, make_pair

from lab import Lab

pytestmark = pytest.mark.netns


@pytest.mark.parametrize(("policy", "shown"), [("mask", False), ("pseudonym", True)])
def test_addresses_in_status(policy: str, shown: bool) -> None:
    with Lab() as lab:
        pair = make_pair(lab, settings={"redact": {"addresses": policy}})
        told = json.dumps(pair.a.status()) + pair.a.cli("status").stdout
        told += pair.a.cli("diag", "net", "--json").stdout
    for address in (*OUTER4[1:], *INNER4):
        assert (address in told) is shown
    assert "beta" in told
    assert "<redacted>" not in told
