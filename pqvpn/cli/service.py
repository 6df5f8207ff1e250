"""`pqvpn check | up | down | reload`: the node as a service.

Owns waiting for a start in the background and for an end. The node itself is `pqvpn.node`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from pqvpn.cli import client, foreground, options, output
from pqvpn.config import paths
from pqvpn.errors import ConfigError, PqvpnError
from pqvpn.reasons import Reason

if TYPE_CHECKING:
    from pqvpn.config.schema import NodeConfig

_START_SECONDS = 15.0
_STOP_SECONDS = 10.0
_RELOAD_SECONDS = 30.0  # the node allows itself 20
_TAIL = 4096


def check(config: options.Config = None, json: options.Json = False) -> None:
    """Validate the configuration and every file it names, without starting. Exit code 78 when it has errors."""
    from pqvpn.config import load

    loaded = load.load(options.config_path(config))
    if json:
        peers = [peer.name for peer in loaded.peers]
        output.print_json({"ok": True, "config": str(loaded.path), "name": loaded.node.name, "peers": peers})
        return
    count = len(loaded.peers)
    print(f"{loaded.path} is valid: node {loaded.node.name}, {count} peer{'' if count == 1 else 's'}.")


def up(
    context: typer.Context,
    config: options.Config = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it runs in the background.")] = False,
    json: options.Json = False,
) -> None:
    """Start the node. In the foreground until SIGTERM, SIGINT or 'pqvpn down'; its log goes to stderr."""
    path = options.config_path(config)
    debug = isinstance(context.obj, output.Modes) and context.obj.debug
    if not detach:
        raise typer.Exit(foreground.run(path, debug=debug))
    from pqvpn.config import load

    _start_in_background(load.load(path), debug, json)


def _start_in_background(config: "NodeConfig", debug: bool, json: bool) -> None:
    runtime = config.runtime_folder
    if (pid := client.running_pid(runtime)) is not None:
        raise PqvpnError(Reason.ALREADY_RUNNING, f"it has pid {pid}", place=str(config.path))
    log_path = paths.log_file(runtime)
    with _open_log(log_path) as log:
        begin = log.seek(0, os.SEEK_END)
        command = [sys.executable, "-m", "pqvpn.cli", "up", "--config", str(config.path)]
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, *(["--debug"] if debug else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    pid = _wait_until_running(runtime, child, log_path, begin)
    if json:
        output.print_json({"pid": pid, "log": str(log_path)})
    else:
        print(f"The node runs with pid {pid}; its log is {log_path}.")


def _open_log(path: Path) -> IO[bytes]:
    """The log of a detached node, 0600, appended to."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return open(os.open(path, flags, 0o600), "ab", buffering=0)
    except OSError as error:
        raise ConfigError(Reason.CONFIG_NOT_WRITTEN, error.strerror or str(error), place=str(path)) from None


def _wait_until_running(runtime: Path, child: "subprocess.Popen[bytes]", log: Path, begin: int) -> int:
    """The node's pid once its control socket says that it runs; when it ends instead, its words and its exit code."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            sys.stderr.write(_said(log, begin))
            code = child.returncode if child.returncode > 0 else os.EX_SOFTWARE
            raise typer.Exit(code)
        if paths.control_socket(runtime).exists():
            try:
                state = client.request(runtime, "status", seconds=1.0)["node"]
            except (PqvpnError, KeyError):
                state = {}  # not there yet
            if state.get("state") == "running" and state.get("pid") == child.pid:
                return child.pid
        time.sleep(0.02)  # there is nothing to wait on before the socket exists
    raise PqvpnError(Reason.START_TIMEOUT, f"pid {child.pid}, log {log}", place=str(runtime))


def _said(log: Path, begin: int) -> str:
    """What the child wrote since `begin`, the last 4 KiB of it."""
    with open(log, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - _TAIL))
        return file.read().decode("utf-8", "replace")


def down(config: options.Config = None, json: options.Json = False) -> None:
    """Stop the node and wait for its end. When none runs, remove what a killed one left behind; that is no error."""
    path = options.config_path(config)
    runtime = paths.runtime_folder_of(path)
    pid = client.running_pid(runtime)
    if pid is not None:
        _ask_to_end(runtime, pid)
        if not client.wait_until_ended(runtime, _STOP_SECONDS):
            raise PqvpnError(
                Reason.STOP_TIMEOUT, f"pid {pid} still runs after {_STOP_SECONDS:.0f} s", place=str(runtime)
            )
        _tell_down({"stopped": pid, "removed": []}, json, f"The node with pid {pid} has ended.")
        return
    from pqvpn.config import load

    loaded = load.load(path)
    from pqvpn import node

    removed = [str(leftover) for leftover in node.clean(path, loaded)]
    text = "No node runs with this configuration."
    if removed:
        text += "\nRemoved what one left behind: " + ", ".join(removed)
    _tell_down({"stopped": None, "removed": removed}, json, text)


def _ask_to_end(runtime: Path, pid: int) -> None:
    """By the control socket, else by SIGTERM: a node whose control process hangs must still be stoppable."""
    try:
        client.request(runtime, "down")
    except PqvpnError as error:
        if error.reason is Reason.NOT_RUNNING:
            return  # it ended in between
        if error.reason is not Reason.CONTROL_UNREACHABLE or pid <= 0:
            raise
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _tell_down(result: dict[str, object], json: bool, text: str) -> None:
    if json:
        output.print_json(result)
    else:
        print(text)


def reload(config: options.Config = None, json: options.Json = False) -> None:
    """Apply the changed configuration to the running node. One with errors changes nothing."""
    path = options.config_path(config)
    result = client.request(paths.runtime_folder_of(path), "reload", seconds=_RELOAD_SECONDS)
    if json:
        output.print_json(result)
        return
    changes = result.get("changes") or []
    print("\n".join(("Applied:", *(f"  {change}" for change in changes))) if changes else "Nothing to apply.")
    for setting in result.get("restart_needed") or []:
        print(f"  {setting}: takes effect when the node is started anew")
