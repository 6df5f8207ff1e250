"""Whatever stands in the file, loading it gives a configuration or ConfigErrors, each with a place, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pqvpn.config import checks, load, schema
from pqvpn.config.findings import Findings
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError, ConfigErrors
from pqvpn.identity.private_key import IdentityKey
from pqvpn.reasons import Reason

KNOWN = sorted(
    {*schema.SECTIONS, "peer"}
    | {name for model in (*schema.SECTIONS.values(), schema.PeerSection) for name in model.model_fields}
)
WORDS = st.sampled_from(
    [
        "auto",
        "off",
        "90s",
        "10.7.0.1/24",
        "10.7.0.0/24",
        "::/0",
        "fd00::1/64",
        "a:1",
        "[::1]:51820",
        "identity.key",
        "/",
        ".",
    ]
)
SCALARS = (
    WORDS
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.sampled_from([2027, 1280, 51820])
)
KEYS = st.sampled_from(KNOWN) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
SECTION = st.dictionaries(KEYS, VALUES, max_size=6)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(schema.SECTIONS, SECTION),
        "peer": st.dictionaries(st.sampled_from(["beta", "gamma"]) | st.text(max_size=4), SECTION, max_size=3),
    },
)


def inline(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{inline(key)} = {inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(inner) for inner in value) + "]"
    return json.dumps(value).replace("\x7f", "\\u007f")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node", numbered=True)
    folder.chmod(0o700)
    (folder / "identity.key").write_bytes(IdentityKey(Secret(bytes([1]) * 64)).encode().expose())
    (folder / "identity.key").chmod(0o600)
    return folder / "pqvpn.toml"


def outcome(load_it: Callable[[], schema.NodeConfig]) -> schema.NodeConfig | tuple[ConfigError, ...]:
    try:
        return load_it()
    except ConfigErrors as errors:
        return errors.errors


def assert_typed(load_it: Callable[[], schema.NodeConfig]) -> None:
    met = outcome(load_it)
    if isinstance(met, tuple):
        assert met
        assert all(error.place and isinstance(error.reason, Reason) and error.remedy for error in met)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=DOCUMENTS)
def test_arbitrary_documents(node: Path, document: dict[str, Any]) -> None:
    source = "\n".join(f"{inline(key)} = {inline(value)}" for key, value in document.items())
    assert_typed(lambda: load.parse(source, node))


@settings(max_examples=200, deadline=None)
@given(source=st.text(max_size=200))
def test_arbitrary_text(node: Path, source: str) -> None:
    assert_typed(lambda: load.parse(source, node))


@settings(max_examples=100, deadline=None)
@given(encoded=st.binary(max_size=200))
def test_arbitrary_bytes(node: Path, encoded: bytes) -> None:
    node.write_bytes(encoded)
    assert_typed(lambda: load.load(node))


NETWORK = st.builds(
    lambda high, low, length: f"10.0.{high}.{low & (0xFF00 >> (length - 24)) & 0xFF}/{length}",
    st.integers(0, 1),
    st.integers(0, 255),
    st.integers(24, 32),
)


@settings(deadline=None)
@given(claims=st.dictionaries(st.sampled_from("abcd"), st.lists(NETWORK, min_size=1, max_size=5), max_size=4))
def test_overlaps_against_a_plain_model(claims: dict[str, list[str]]) -> None:
    peers = {name: schema.PeerSection.model_validate({"allowed_ips": networks}) for name, networks in claims.items()}
    model = any(
        one.overlaps(other)
        for name in peers
        for rival in peers
        if name < rival
        for one in peers[name].allowed_ips
        for other in peers[rival].allowed_ips
    )
    findings = Findings("")
    checks.check_overlaps(findings, peers)
    if not model:
        findings.raise_if_any()
        return
    with pytest.raises(ConfigErrors) as caught:
        findings.raise_if_any()
    assert {error.reason for error in caught.value.errors} == {Reason.CONFIG_ALLOWED_OVERLAP}
