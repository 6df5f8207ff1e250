"""The supervisor's side of telemetry: the policy of redaction, the sockets, where records go."""

import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pqvpn.config import load, paths
from pqvpn.config.sample import render
from pqvpn.config.schema import NodeConfig
from pqvpn.crypto.secret import Secret
from pqvpn.errors import NetworkError, TelemetryError
from pqvpn.identity.private_key import IdentityKey
from pqvpn.node import observing
from pqvpn.node.observing import Observing
from pqvpn.reasons import Reason
from pqvpn.telemetry.export import Endpoint

BASE = render(name="alpha", listen=51820, interface="pqvpn0", addresses=("10.7.0.1/24",)).split("[log]")[0]
BASE = BASE.replace("[node]", '[node]\nstate_dir = "state"\nruntime_dir = "run"')


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    (tmp_path / "identity.key").touch(mode=0o600)
    (tmp_path / "identity.key").write_bytes(IdentityKey(Secret(bytes(64))).encode().expose())
    (tmp_path / "run").mkdir(0o700)
    return tmp_path


def config(folder: Path, more: str = "") -> NodeConfig:
    return load.parse(BASE + more, folder / "pqvpn.toml")


def made(config: NodeConfig) -> Observing:
    return Observing(config, debug=False, started_at=0.0)


def test_the_state_folder_is_private_and_its_key_stays(folder: Path) -> None:
    first = observing.policy_of(config(folder))
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "state" / "pseudonym.key").stat().st_mode) == 0o600
    assert observing.policy_of(config(folder)).key == first.key


def test_a_state_folder_that_cannot_be_keeps_no_node_from_starting(folder: Path) -> None:
    (folder / "state").write_text("a file in its place")
    assert len(observing.policy_of(config(folder)).key) == 32


def test_known_hosts_are_redacted(folder: Path) -> None:
    policy = observing.policy_of(config(folder, '[telemetry]\nendpoint = "https://collector.example:4318"\n'))
    assert policy.hosts == {"collector.example"}


def test_the_health_socket_is_private_and_goes_with_the_node(folder: Path) -> None:
    ours = made(config(folder, '[health]\nlisten = "127.0.0.1:0"\n'.replace(":0", f":{_free_port()}")))
    place = paths.health_socket(folder / "run")
    ours.listen()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert observing._is_loopback(ours._tcp)
    assert ours.facts >= 0
    ours.close()
    assert not place.exists()


def test_a_port_that_is_taken_is_told_and_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ours = made(config(folder, f'[health]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n'))
        ours.listen()
        assert ours._tcp is None
        ours.close()
    assert Reason.ADDRESS_IN_USE.code in capsys.readouterr().err


def test_telemetry_that_is_off_opens_nothing(folder: Path) -> None:
    ours = made(config(folder, "[telemetry]\nenabled = false\n"))
    ours.listen()
    assert (ours.enabled, ours.facts) == (False, -1)
    assert not paths.health_socket(folder / "run").exists()
    ours.close()


def test_nothing_is_sent_unless_somebody_says_where(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert observing.endpoint_of(config(folder)) is None
    configured = observing.endpoint_of(config(folder, '[telemetry]\nendpoint = "https://collector.example:4318"\n'))
    assert configured
    logs = Endpoint.unpack(configured).logs
    assert logs
    assert logs.url == "https://collector.example:4318/v1/logs"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert observing.endpoint_of(config(folder))


def test_a_variable_that_would_bypass_redaction_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_CONFIG_FILE", "/tmp/otel.yaml")
    with pytest.raises(TelemetryError) as refused:
        made(config(folder))
    assert refused.value.place == "OTEL_CONFIG_FILE"


def test_standard_error_that_is_the_file_of_the_background_is_known(folder: Path) -> None:
    assert not observing._detached(folder / "run")
    log = paths.log_file(folder / "run")
    kept = os.dup(2)
    try:
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 2)
        assert observing._detached(folder / "run")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def test_a_health_endpoint_that_cannot_be_had_is_refused_before_anything_changes(folder: Path) -> None:
    here = f'[health]\nlisten = "127.0.0.1:{_free_port()}"\n'
    ours = made(config(folder, here))
    ours.listen()
    before = ours._tcp
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NetworkError) as refused:
        ours.prepare(config(folder, f'[health]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n'))
    assert (refused.value.reason, refused.value.place) == (Reason.ADDRESS_IN_USE, "health.listen")
    ours._settle()
    assert ours._tcp is before
    ours.close()


def test_a_health_endpoint_moves_once_the_next_observer_starts(folder: Path) -> None:
    port = _free_port()
    there = config(folder, f'[health]\nlisten = "127.0.0.2:{port}"\n')
    wide = config(folder, f'[health]\nlisten = "localhost:{port}"\n')
    ours = made(config(folder, f'[health]\nlisten = "127.0.0.1:{port}"\n'))
    ours.listen()
    for wanted, host in ((there, "127.0.0.2"), (wide, "127.0.0.1"), (config(folder), None)):
        ours.prepare(wanted)
        ours.apply(wanted)
        ours._settle()
        assert (ours._tcp.getsockname() if ours._tcp else None) == ((host, port) if host else None)
    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody listens there any more
    ours.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
