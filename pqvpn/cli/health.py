"""`pqvpn health`: what is wrong with the running node, worst first.

Owns the request on the health socket and how its answer is shown. The answer is the observer's; where there is none,
this says why: no node, telemetry off, or an observer that does not answer.
"""

import json as jsonlib
import os
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pqvpn.cli import client, options, output, view
from pqvpn.config import paths
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

EXIT_CODES: Final = {"ok": os.EX_OK, "warning": 1, "failing": 2, "unknown": 1}
_NOT_READY: Final = 1
_SECONDS: Final = 6.0
"""An observer that is just being started answers within; a node begins to be observed a second after it runs."""
_LARGEST: Final = 8 << 20
_INTERVAL: Final = 2.0
_COLOURS: Final = {"failing": "\033[31m", "warning": "\033[33m", "unknown": "\033[33m", "ok": "\033[32m"}


def health(
    config: options.Config = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Only say whether it can carry traffic: 0 or 1, for container checks.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every 2 seconds until Ctrl-C.")] = False,
    json: options.Json = False,
) -> None:
    """Tell what is wrong with the running node, and what to do. Exit code 0: nothing, 1: warnings, 2: failing, 69: no answer."""
    path = options.config_path(config)
    if ready:
        status, answer = ask(path, "/readyz")
        if json:
            output.print_json(answer)
        else:
            print(
                "ready" if status == 200 else f"not ready: {', '.join(answer.get('failing', [])) or answer.get('node')}"
            )
        raise typer.Exit(os.EX_OK if status == 200 else _NOT_READY)
    while True:
        _, answer = ask(path, "/health")
        if json:
            output.print_json(answer)
        else:
            print(plain(answer, output.coloured(sys.stdout)))
        if not watch:
            raise typer.Exit(EXIT_CODES.get(str(answer.get("state")), 1))
        print(flush=True)
        time.sleep(_INTERVAL)


def ask(config: Path, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    """Status and answer of the node's health endpoint.

    Raises PqvpnError: node.not_running, cli.telemetry_off, cli.observer_unreachable, host.no_permission.
    """
    from pqvpn.cli.unixhttp import HTTPException, UnixConnection  # a node, which imports this module too, needs no HTTP

    runtime = paths.runtime_folder_of(config)
    connection = UnixConnection(paths.health_socket(runtime), _SECONDS)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        answer = jsonlib.loads(response.read(_LARGEST))
    except PermissionError:
        raise PqvpnError(
            Reason.NO_PERMISSION,
            "the health socket is not open to this user",
            place=str(paths.health_socket(runtime)),
            remedy="run as root or as the user that runs the node",
        ) from None
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise _unanswered(config, runtime, str(error)) from None
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise _unanswered(config, runtime, "its answer is not understood")
    return response.status, answer


def _unanswered(config: Path, runtime: Path, why: str) -> PqvpnError:
    if client.running_pid(runtime) is None:
        return PqvpnError(Reason.NOT_RUNNING, place=str(runtime))
    if _telemetry_is_off(config):
        return PqvpnError(Reason.TELEMETRY_OFF, place=str(config))
    return PqvpnError(Reason.OBSERVER_UNREACHABLE, why, place=str(paths.health_socket(runtime)))


def _telemetry_is_off(config: Path) -> bool:
    try:
        section = tomllib.loads(config.read_text(encoding="utf-8")).get("telemetry", {})
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(section, dict) and section.get("enabled") is False


def plain(answer: Mapping[str, Any], coloured: bool = False) -> str:
    """The answer in words: what is wrong with its evidence and remedy, then how many items are well."""
    node = answer.get("node", {})
    items: Sequence[Mapping[str, Any]] = answer.get("items", ())
    wrong = [item for item in items if item.get("state") != "ok" and not item.get("suppressed_by")]
    hidden = [item for item in items if item.get("state") != "ok" and item.get("suppressed_by")]
    well = [item for item in items if item.get("state") == "ok"]
    state = str(answer.get("state"))
    lines = [f"{node.get('name')}: {_word(state, coloured)}, {node.get('state')}"]
    for item in wrong:
        lines += _block(item, coloured)
    if hidden:
        causes = sorted({str(item["suppressed_by"]) for item in hidden})
        lines.append(f"  {len(hidden)} more follow from {', '.join(causes)}: {', '.join(_name(i) for i in hidden)}")
    lines.append(
        f"  ok       {len(well)} of {len(items)}: {', '.join(dict.fromkeys(str(i.get('item')) for i in well))}"
    )
    return "\n".join(lines)


def _block(item: Mapping[str, Any], coloured: bool) -> list[str]:
    state = str(item.get("state"))
    code = f" [{item['code']}]" if item.get("code") else ""
    what = item.get("cause") or f"not known: {item.get('text')}"
    lines = [f"  {_word(state, coloured, 8)} {_name(item)}: {what}{code}, for {view.age(item.get('since_seconds'))}"]
    if item.get("evidence"):
        lines.append(f"           {item['evidence']}")
    if item.get("remedy"):
        lines.append(f"           remedy: {item['remedy']}")
    return lines


def _name(item: Mapping[str, Any]) -> str:
    return f"{item.get('item')} {item['key']}" if item.get("key") else str(item.get("item"))


def _word(state: str, coloured: bool, width: int = 0) -> str:
    word = state.ljust(width)
    return f"{_COLOURS.get(state, '')}{word}\033[0m" if coloured else word
