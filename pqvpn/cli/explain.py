"""`pqvpn explain`: what a code, a drop reason or a fact means, and what to do.

Owns the command. The meanings are put together in `pqvpn.diag.explanations`.
"""

from typing import Annotated

import typer

from pqvpn.cli import options, output
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason


def explain(
    word: Annotated[
        str,
        typer.Argument(metavar="[CODE]", help="A reason code, a drop reason or the name of a fact; without it: all."),
    ] = "",
    json: options.Json = False,
) -> None:
    """Say what a code means, what causes it, what to do, and where it shows."""
    from pqvpn.cli import diag
    from pqvpn.diag import explanations, report

    found = explanations.find(word) if word else explanations.every()
    if not found:
        near = explanations.near(word)
        raise PqvpnError(
            Reason.USAGE, f"nothing is called {word!r}", remedy=f"known are, nearest first: {', '.join(near)}"
        )
    if json:
        output.print_json(report.headed("explain", {"explanations": explanations.document(found)}))
    else:
        width = diag.width()
        diag.show(explanations.lines(found, width) if word else explanations.listing(found, width))
