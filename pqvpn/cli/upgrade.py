"""`pqvpn upgrade`: have a running node go on as another version, under its sessions.

Owns the request and the telling of how far it is. What happens is `pqvpn.node.upgrade`'s matter; the two meet in two files
of the runtime folder, since the control socket's process is replaced meanwhile.
"""

import contextlib
import json as jsons
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pqvpn.cli import client, options, output
from pqvpn.config import paths
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

_SECONDS: Final = 150.0
_ENDS: Final = ("done", "refused", "rolled_back")
_WORDS: Final = {
    "checking": "The new version checks itself.",
    "executing": "The supervisor executes the new version.",
    "replacing": "On trial: {detail}.",
    "rolling_back": "Back to the former version: {detail}.",
}


def upgrade(
    config: options.Config = None,
    python: Annotated[
        Path | None,
        typer.Option(
            "--python",
            metavar="FILE",
            help="Interpreter of the environment with the new version; by default the one that runs the node.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Replace the running node's code by the version that is installed now; sessions go on. One that fails is rolled back."""
    runtime = paths.runtime_folder_of(options.config_path(config))
    pid = client.running_pid(runtime)
    if not pid:
        raise PqvpnError(Reason.NOT_RUNNING, place=str(runtime))
    request = os.urandom(8).hex()
    _ask(runtime, request, "" if python is None else _program(python))
    try:
        os.kill(pid, signal.SIGUSR2)
    except PermissionError:
        remedy = "run as root or as the user that runs the node"
        raise PqvpnError(Reason.NO_PERMISSION, "the node belongs to another user", remedy=remedy) from None
    except ProcessLookupError:
        raise PqvpnError(Reason.NOT_RUNNING, place=str(runtime)) from None
    result = _follow(runtime, request, quiet=json)
    if result["stage"] != "done":
        reason = Reason.UPGRADE_REFUSED if result["stage"] == "refused" else Reason.UPGRADE_ROLLED_BACK
        raise PqvpnError(reason, str(result.get("detail", "")))
    told = {"before": result.get("before"), "version": result.get("version"), "seconds": result.get("seconds")}
    if json:
        output.print_json(told)
    else:
        print(f"The node runs version {told['version']} now, before {told['before']}; it took {told['seconds']} s.")


def _program(given: Path) -> str:
    """Absolute, without following links: the link is what makes an environment of it."""
    found = shutil.which(str(given))
    if found is None:
        raise PqvpnError(Reason.USAGE, f"{given} is no program", remedy="give an interpreter, .../bin/python")
    return os.path.abspath(found)


def _ask(runtime: Path, request: str, python: str) -> None:
    place = paths.upgrade_request(runtime)
    with contextlib.suppress(FileNotFoundError):
        place.unlink()  # one of another user could not be written
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            owner = os.stat(runtime)
            if owner.st_uid != os.geteuid():
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(jsons.dumps({"id": request, "python": python}))
    except OSError as error:
        raise PqvpnError(Reason.NO_PERMISSION, error.strerror or str(error), place=str(place)) from None


def _follow(runtime: Path, request: str, *, quiet: bool) -> dict[str, Any]:
    """Tell each step until the end. Raises PqvpnError when the node ended, or says nothing."""
    deadline = time.monotonic() + _SECONDS
    said = ""
    while time.monotonic() < deadline:
        result = _result(runtime, request)
        stage = str(result.get("stage", ""))
        if stage in _ENDS:
            return result
        words = _WORDS.get(stage, "").format(detail=result.get("detail", ""))
        if words and words != said and not quiet:
            print(words, file=sys.stderr, flush=True)
        said = words
        if not client.running_pid(runtime):
            raise PqvpnError(Reason.KILLED, "it ended during the upgrade", place=str(runtime))
        time.sleep(0.05)  # a file has nothing to wait on
    raise PqvpnError(Reason.CONTROL_UNREACHABLE, f"no end of the upgrade within {_SECONDS:.0f} s", place=str(runtime))


def _result(runtime: Path, request: str) -> dict[str, Any]:
    try:
        result = jsons.loads(paths.upgrade_result(runtime).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) and result.get("id") == request else {}
