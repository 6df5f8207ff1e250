"""`pqvpn status`: what the node says of itself, at a glance.

Owns how `view`'s words are laid out: a coloured table on a terminal (rich, imported only there), plain columns elsewhere.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pqvpn.cli import breakers, client, options, output, view
from pqvpn.config import paths

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_INTERVAL = 1.0
NOT_ALL_UP = 1


def status(
    config: options.Config = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every second until Ctrl-C.")] = False,
    drops: Annotated[bool, typer.Option("--drops", help="Show discarded packets by reason instead.")] = False,
    breakers_: Annotated[bool, typer.Option("--breakers", help="Show the circuit breakers instead.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 1 unless every peer is up, with full security.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show the running node and its peers. Exit code 0 when the node answers, 69 when none runs."""
    if breakers_:
        breakers.show(options.config_path(config), json=json, watch=_INTERVAL if watch else None)
        return
    runtime = paths.runtime_folder_of(options.config_path(config))
    if watch:
        _watch(runtime, drops, json)
        return
    answer = client.request(runtime, "status")
    _show(answer, drops, json)
    if exit_code and not view.all_up(answer):
        raise typer.Exit(NOT_ALL_UP)


def _show(answer: Mapping[str, Any], drops: bool, json: bool) -> None:
    if json:
        output.print_json(answer.get("drops", {}) if drops else answer)
    elif output.coloured(sys.stdout):
        from rich.console import Console

        console = Console(highlight=False)
        console.print(_rich(answer, drops, console.width))
    else:
        print(plain(answer, drops))


def _watch(runtime: Path, drops: bool, json: bool) -> None:
    """Refresh in place on a terminal, else print again and again. Ctrl-C is the way out, not an error."""
    try:
        if json or not output.coloured(sys.stdout):
            while True:
                _show(client.request(runtime, "status"), drops, json)
                print(flush=True)
                time.sleep(_INTERVAL)
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False)
        first = _rich(client.request(runtime, "status"), drops, console.width)
        with Live(first, console=console, auto_refresh=False, screen=True) as live:
            while True:
                live.refresh()
                time.sleep(_INTERVAL)
                live.update(_rich(client.request(runtime, "status"), drops, console.width))
    except KeyboardInterrupt:
        return


def plain(answer: Mapping[str, Any], drops: bool = False) -> str:
    """The answer as plain text."""
    if drops:
        rows = view.drops(answer)
        return output.columns(("REASON", "PACKETS"), rows) if rows else "No packet was discarded."
    lines = [note.text for note in view.headline(answer)]
    if rows_ := [view.row(peer) for peer in view.peers(answer)]:
        lines += ["", output.columns(view.COLUMNS, rows_)]
    if notes := view.notes(answer):
        lines += ["", *(note.text for note in notes)]
    return "\n".join(lines)


def _rich(answer: Mapping[str, Any], drops: bool, width: int) -> "Group":
    from rich.console import Group
    from rich.text import Text

    if drops:
        return Group(Text(plain(answer, drops=True)))
    rows = [view.row(peer) for peer in view.peers(answer)]
    fits = sum(output.widths(view.COLUMNS, rows)) + 2 * len(view.COLUMNS) <= width
    above = [Text(note.text, style="bold red" if note.alarm else "") for note in view.headline(answer)]
    below = [Text(note.text, style="bold red" if note.alarm else "yellow") for note in view.notes(answer)]
    return Group(*above, Text(""), _table(rows) if fits else _blocks(rows), Text(""), *below)


def _table(rows: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in view.COLUMNS:
        table.add_column(name, no_wrap=True)
    for words in rows:
        colour = view.COLOURS.get(words[1], "red")
        table.add_row(*(Text(word, style=colour if place == 1 else "") for place, word in enumerate(words)))
    return table


def _blocks(rows: Sequence[Sequence[str]]) -> "Group":
    from rich.console import Group
    from rich.text import Text

    lines = []
    for words in rows:
        first, *others = view.block(words)
        lines += [Text(first, style=view.COLOURS.get(words[1], "red")), *(Text(line) for line in others)]
    return Group(*lines)
