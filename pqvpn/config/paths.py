"""Where a node keeps its things: configuration, runtime folder, control socket, pid file.

Owns the rules that `pqvpn` commands and the node itself must agree on. Imports neither pydantic nor cryptography, so
that `pqvpn status` starts fast, and validates nothing: a broken configuration must not keep anybody from asking a
running node.
"""

import hashlib
import os
import tomllib
from pathlib import Path

CONFIG_NAME = "pqvpn.toml"
IDENTITY_NAME = "identity.key"
PEERS_FOLDER = "peers"
CARD_SUFFIX = ".pqcard"
SOCKET_NAME = "control.sock"
PID_NAME = "pid"
LOG_NAME = "pqvpn.log"
SPOOL_FOLDER = "spool"  # in the state folder
CRASHES_FOLDER = "crashes"  # in the state folder
LOG_FOLDER = "log"  # in the state folder
PSEUDONYM_KEY_NAME = "pseudonym.key"  # in the state folder
UPGRADE_NAME = "upgrade"
HEALTH_NAME = "health.sock"
SOCKET_PATH_LIMIT = 107  # sun_path holds 108 bytes with its final zero (unix(7))


def default_config() -> Path:
    """`/etc/pqvpn/pqvpn.toml` as root, else `~/.config/pqvpn/pqvpn.toml`."""
    folder = Path("/etc/pqvpn") if os.geteuid() == 0 else Path.home() / ".config" / "pqvpn"
    return folder / CONFIG_NAME


def runtime_folder(config: Path, runtime_dir: str | None = None) -> Path:
    """The folder of control socket and pid file for the configuration at `config`.

    `runtime_dir` is `[node] runtime_dir`, relative to the configuration's folder. Without it: `/run/pqvpn/<h>` as root,
    `$XDG_RUNTIME_DIR/pqvpn/<h>` for others, and `run/<h>` beside the configuration where there is neither (root of a
    user namespace, a cron job). h names the configuration: 12 hex digits of the SHA-256 of its real path.
    """
    real = Path(os.path.realpath(config))
    if runtime_dir is not None:
        return real.parent / runtime_dir
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run/pqvpn") / name
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() != 0 and os.path.isabs(session) and os.access(session, os.W_OK):
        return Path(session) / "pqvpn" / name
    return real.parent / "run" / name


def state_folder(config: Path, state_dir: str | None = None) -> Path:
    """The folder of what outlives the node (spool, log files, last known state) for the configuration at `config`.

    `state_dir` is `[node] state_dir`, relative to the configuration's folder. Without it: `/var/lib/pqvpn/<h>` as root,
    `$XDG_STATE_HOME/pqvpn/<h>` or `~/.local/state/pqvpn/<h>` for others, and `state/<h>` beside the configuration
    where there is neither; h as in `runtime_folder`.
    """
    real = Path(os.path.realpath(config))
    if state_dir is not None:
        return real.parent / state_dir
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    if os.geteuid() == 0:
        place = Path("/var/lib")
    else:
        given = os.environ.get("XDG_STATE_HOME", "")
        place = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    if os.access(place, os.W_OK) or (os.geteuid() != 0 and os.access(Path.home(), os.W_OK)):
        return place / "pqvpn" / name
    return real.parent / "state" / name


def runtime_folder_of(config: Path) -> Path:
    """`runtime_folder` with `[node] runtime_dir` as the file has it; the file may be missing or broken otherwise."""
    return runtime_folder(config, _node_setting(config, "runtime_dir"))


def state_folder_of(config: Path) -> Path:
    """`state_folder` with `[node] state_dir` as the file has it; the file may be missing or broken otherwise."""
    return state_folder(config, _node_setting(config, "state_dir"))


def _node_setting(config: Path, name: str) -> str | None:
    try:
        node = tomllib.loads(config.read_text(encoding="utf-8")).get("node")
    except (OSError, ValueError, RecursionError):
        node = None
    chosen = node.get(name) if isinstance(node, dict) else None
    return chosen if isinstance(chosen, str) and "\0" not in chosen else None


def health_socket(runtime: Path) -> Path:
    """The unix socket of the health and metrics endpoint in a runtime folder."""
    return runtime / HEALTH_NAME


def control_socket(runtime: Path) -> Path:
    """The control socket in a runtime folder."""
    return runtime / SOCKET_NAME


def pid_file(runtime: Path) -> Path:
    """The pid file in a runtime folder; locked by flock while the node runs."""
    return runtime / PID_NAME


def log_file(runtime: Path) -> Path:
    """Where a node that was started with `--detach` writes its log."""
    return runtime / LOG_NAME


def upgrade_request(folder: Path) -> Path:
    """Which version an operator wants, for the supervisor to read."""
    return folder / f"{UPGRADE_NAME}-request.json"


def upgrade_result(folder: Path) -> Path:
    """How far an upgrade is, or how it ended."""
    return folder / f"{UPGRADE_NAME}.json"
