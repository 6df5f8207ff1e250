"""`pqvpn breaker list | open | close | reset`, and the table of `pqvpn status --breakers`.

Owns what is shown of breakers, and who is asked: control for its own and the supervisor's, the observer for its own on the
health socket. Decides nothing: what a breaker does is `resilience/breaker.py`.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import typer

from pqvpn.cli import client, health, options, output
from pqvpn.config import paths
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

_COLUMNS: Final = ("BREAKER", "STATE", "FAILURES", "NEXT TRY", "PROCESS")
_OBSERVER: Final = "observer"
_HELD: Final = {"open": "held open", "closed": "held closed"}

app = typer.Typer(
    no_args_is_help=True,
    help="Show the circuit breakers of a running node, and hold or reset one.",
    epilog=options.examples("pqvpn breaker list", "pqvpn breaker open peer/beta", "pqvpn breaker reset peer/beta"),
)


def _complete(context: typer.Context, incomplete: str) -> list[str]:
    """Names for the shell; none where the node does not answer."""
    try:
        given = context.params.get("config")
        rows = _rows(options.config_path(Path(given) if given else None))
    except Exception:  # noqa: BLE001 - a completion that fails must not disturb the command line
        return []
    return [str(row["name"]) for row in rows if str(row["name"]).startswith(incomplete)]


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="As listed, for example peer/beta.", autocompletion=_complete)
]


@app.command("list", epilog=options.examples("pqvpn breaker list", "pqvpn breaker list --json"))
def list_(config: options.Config = None, json: options.Json = False) -> None:
    """List the circuit breakers."""
    show(options.config_path(config), json=json)


@app.command("open", epilog=options.examples("pqvpn breaker open otlp", "pqvpn breaker open peer/beta"))
def open_(name: Name, config: options.Config = None, json: options.Json = False) -> None:
    """Keep a breaker open until it is reset: what it guards is not tried."""
    _act(name, "open", config, json)


@app.command(epilog=options.examples("pqvpn breaker close dns/beta.example.net"))
def close(name: Name, config: options.Config = None, json: options.Json = False) -> None:
    """Keep a breaker closed until it is reset: what it guards is always tried, whatever comes of it."""
    _act(name, "close", config, json)


@app.command(epilog=options.examples("pqvpn breaker reset peer/beta"))
def reset(name: Name, config: options.Config = None, json: options.Json = False) -> None:
    """Forget failures and holds of a breaker, and try at once what waits for it."""
    _act(name, "reset", config, json)


def show(config: Path, *, json: bool, watch: float | None = None) -> None:
    """Print all breakers; with `watch` again each so many seconds, until Ctrl-C."""
    try:
        while True:
            rows = _rows(config)
            if json:
                output.print_json({"breakers": rows})
            else:
                print(plain(rows))
            if watch is None:
                return
            print(flush=True)
            time.sleep(watch)
    except KeyboardInterrupt:
        return


def plain(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table, what is not closed first."""
    ordered = sorted(rows, key=lambda row: (row["state"] == "closed" and not row["held"], row["name"]))
    return output.columns(_COLUMNS, [_words(row) for row in ordered])


def _words(row: Mapping[str, Any]) -> tuple[str, ...]:
    state, left = str(row["state"]), row.get("next_try_seconds")
    word = _HELD.get(state, state) if row["held"] else state.replace("_", " ")
    failures = f"{row['failures']} of {row['calls']}" if row["calls"] else "-"
    return str(row["name"]), word, failures, "-" if left is None else f"{left:.0f} s", str(row["process"])


def _rows(config: Path) -> list[dict[str, Any]]:
    rows = list(client.request(paths.runtime_folder_of(config), "breakers")["breakers"])
    try:
        _, answer = health.ask(config, "/breakers")
        rows += answer.get("breakers", [])
    except PqvpnError as error:
        if error.reason not in (Reason.TELEMETRY_OFF, Reason.OBSERVER_UNREACHABLE):
            raise
    return rows


def _act(name: str, action: str, given: Path | None, json: bool) -> None:
    config = options.config_path(given)
    rows = {str(row["name"]): row for row in _rows(config)}
    if name not in rows:
        raise _unknown(name, rows)
    if rows[name]["process"] == _OBSERVER:
        path = f"/breakers?{urlencode({'name': name, 'action': action})}"
        status, row = health.ask(config, path, "POST")
        if status != 200:
            raise PqvpnError(Reason.REQUEST_REFUSED, str(row.get("detail", "")))
    else:
        row = client.request(paths.runtime_folder_of(config), "breaker", name=name, action=action)
    if json:
        output.print_json(row)
    elif row["held"]:
        print(f"{name} is {_HELD[row['state']]} until: pqvpn breaker reset {name}")
    else:
        print(f"{name} is {str(row['state']).replace('_', ' ')}; its failures are forgotten.")


def _unknown(name: str, rows: Mapping[str, Any]) -> PqvpnError:
    from pqvpn.diag.nearest import nearest  # only when there is something to tell

    meant = " or ".join(nearest(name, rows, 3))
    remedy = f"did you mean {meant}? All of them: pqvpn breaker list"
    return PqvpnError(Reason.REQUEST_REFUSED, f"there is no breaker {name[:128]!r}", remedy=remedy)
