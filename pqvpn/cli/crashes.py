"""`pqvpn diag crashes | crash`: what crashed here, and exactly what a report of it tells.

Owns the two commands. They read the disk and ask no process. What they say is made in `pqvpn.diag.crashes`.
"""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from pqvpn.cli import bundle, diag, options, output
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

if TYPE_CHECKING:
    from pqvpn.diag.crashes import Crash


app = bundle.app
"""All of `pqvpn diag`, with the two commands of this module."""


@app.command(epilog=options.examples("pqvpn diag crashes", "pqvpn diag crashes --json"))
def crashes(context: typer.Context, config: options.Config = None, json: options.Json = False) -> None:
    """List recorded crashes of the node's processes, newest first. Works while the node is down."""
    from pqvpn.diag import crashes as recorded
    from pqvpn.diag import report

    found, notes = _recorded(context, config)
    if json:
        output.print_json(report.headed("crashes", {"crashes": recorded.document(found), "notes": list(notes)}))
    else:
        diag.show(recorded.lines(found, notes, time.time(), diag.width()))


@app.command(
    epilog=options.examples("pqvpn diag crash 4f2a", "pqvpn diag crash last --preview", "pqvpn diag crash last --json")
)
def crash(
    context: typer.Context,
    crash_id: Annotated[str, typer.Argument(metavar="ID", help='The ID, or how it begins; "last": the newest.')],
    preview: Annotated[bool, typer.Option("--preview", help="Print the exact bytes that are sent.")] = False,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Show one crash: what, where, the last log lines; with --preview the bytes that go to a crash server."""
    from pqvpn.diag import crashes as recorded
    from pqvpn.diag import report

    found = recorded.find(_recorded(context, config)[0], crash_id)
    if preview:
        sys.stdout.flush()
        sys.stdout.buffer.write(found.report.envelope)
    elif json:
        output.print_json(report.headed("crash", {**recorded.summary(found), "event": dict(found.report.event)}))
    else:
        diag.show(recorded.details(found, time.time(), diag.width()))


def _recorded(context: typer.Context, config: options.Config) -> "tuple[list[Crash], tuple[str, ...]]":
    from pqvpn.diag import crashes as recorded

    if diag.opened:
        raise PqvpnError(Reason.USAGE, "a bundle holds no crash reports", remedy="ask on the node: pqvpn diag crashes")
    return recorded.of(diag.places(context, config).state)
