"""`pqvpn diag`: why it does not work, since when, and what to do.

Owns the subcommands, how their lines are coloured, and their exit codes: 0 when nothing is wrong, 1 when something is.
What they say is made in `pqvpn.diag`.
"""

import contextlib
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pqvpn.cli import client, options, output
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

if TYPE_CHECKING:
    from pqvpn.diag.gather import Places
    from pqvpn.diag.inquiry import Inquiry
    from pqvpn.diag.net import Name
    from pqvpn.diag.opened import Opened
    from pqvpn.diag.report import Line
    from pqvpn.telemetry.store import SpanRecord

PROBLEMS = 1
_NARROWEST, _WIDEST = 60, 160
_COLOURS = {"bad": "\033[1;31m", "warn": "\033[33m", "good": "\033[32m", "dim": "\033[2m", "bold": "\033[1m"}
_PLAIN = "\033[0m"
opened: "list[Opened]" = []  # the bundle that `diag open` asks instead of the node

app = typer.Typer(
    no_args_is_help=False,
    invoke_without_command=True,
    help="Say why a peer is not connected, since when, and what to do. Works while the node is down, too.",
    epilog=options.examples(
        "pqvpn diag",
        "pqvpn diag --json | jq -r '.verdicts[0].code'",
        "pqvpn diag peer beta",
        "pqvpn diag logs --peer beta --since 1h",
        "pqvpn diag bundle",
        "pqvpn diag open pqvpn-alpha.tar.gz peer beta",
    )
    + "\n\nExit code: 0 nothing is wrong, 1 something is. docs/diag.md describes each verdict and the JSON.",
)

Since = Annotated[str | None, typer.Option("--since", metavar="DURATION", help='How far back: "90s", "2h", "7d".')]
Prefix = Annotated[str, typer.Argument(metavar="ID", help="The ID, or how it begins.")]


@app.callback()
def diag(
    context: typer.Context,
    config: options.Config = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show symptoms and idle peers, too.")] = False,
    json: options.Json = False,
) -> None:
    """Say why a peer is not connected, since when, and what to do. Works while the node is down, too."""
    if context.invoked_subcommand is not None:
        context.meta["config"] = config
        return
    from pqvpn.diag import report

    found = inquiry(context, config).diagnosis
    if json:
        output.print_json(report.document(found))
    else:
        show(report.lines(found, width=width(), everything=everything))
    if not found.healthy:
        raise typer.Exit(PROBLEMS)


@app.command(epilog=options.examples("pqvpn diag peer beta", "pqvpn diag peer beta --since 7d --json"))
def peer(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What this node calls the peer.")],
    since: Since = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Show a peer's history: verdicts, attempts, sessions, paths, loss, and a timeline."""
    from pqvpn.diag import history, report
    from pqvpn.diag.rules import diagnose_peer

    asked = inquiry(context, config)
    found = asked.peer(name)
    seconds = _seconds(since, 86400.0)
    told = history.history(asked.known, found, asked.metrics(since=seconds), seconds)
    verdicts = diagnose_peer(asked.known, name).verdicts
    if json:
        value = {"knowledge": report.knowledge(asked.known), "verdicts": [report.verdict(v) for v in verdicts]}
        output.print_json(report.headed("peer", value | history.document(told)))
        return
    for verdict in verdicts:
        show([*report.verdict_lines(verdict, asked.known, width()), *report.blank()])
    show(history.lines(told, asked.known.now, width()))
    _say_age(asked)


@app.command(
    epilog=options.examples(
        "pqvpn diag trace 4f2a", "pqvpn diag trace last --json", "pqvpn diag trace last --with pqvpn-beta.tar.gz"
    )
)
def trace(
    context: typer.Context,
    trace_id: Annotated[
        str, typer.Argument(metavar="ID", help='The ID, or how it begins; "last": of the newest attempt.')
    ],
    other: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="BUNDLE", help="Add what a bundle of the other end has of it."),
    ] = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Draw a trace: who waited for what, how long, on both ends when both told."""
    from pqvpn.diag import report, traces

    asked = inquiry(context, config)
    spans = asked.last_attempt() if trace_id == "last" else asked.trace(trace_id)
    spans = traces.joined(spans, [_spans_of(place, spans[0].trace_id) for place in other or ()])
    if json:
        output.print_json(report.headed("trace", traces.document(spans)))
    else:
        show(traces.lines(spans, asked.known.now, width()))


def _spans_of(place: Path, trace_id: str) -> "list[SpanRecord]":
    from pqvpn.diag.opened import Opened

    return Opened(place).records.spans(trace_id=trace_id)


@app.command(epilog=options.examples("pqvpn diag session 0c61", "pqvpn diag session 0c61 --json"))
def session(
    context: typer.Context, session_id: Prefix, config: options.Config = None, json: options.Json = False
) -> None:
    """Show everything recorded about a session: the same ID on both ends."""
    from pqvpn.diag import history, report, traces

    asked = inquiry(context, config)
    full, events, spans = asked.session(session_id)
    roots = list(dict.fromkeys(span.trace_id for span in spans))
    if json:
        value = {"session_id": full, "events": [report.event(e) for e in events], "traces": roots}
        output.print_json(report.headed("session", value))
        return
    show([report.Line(f"session {full}", "bold")])
    now = asked.known.now
    show(line for event in events for line in history.event_lines(event, now, width()))
    for each in roots[:3]:
        show([*report.blank(), *traces.lines(asked.trace(each), now, width())])


@app.command(
    epilog=options.examples(
        "pqvpn diag logs --since 10m --level warning",
        "pqvpn diag logs --peer beta --follow",
        "pqvpn diag logs --session 0c61 --json",
    )
)
def logs(
    context: typer.Context,
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Of one session.")] = "",
    peer: Annotated[str, typer.Option("--peer", metavar="NAME", help="About one peer.")] = "",
    component: Annotated[str, typer.Option("--component", metavar="NAME", help="handshake, session, path, ...")] = "",
    level: Annotated[
        str, typer.Option("--level", metavar="LEVEL", help="debug, info, warning or error, and above.")
    ] = "",
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the newest.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Show what was recorded, newest last; with --json a document, with --follow a document a line."""
    from pqvpn.diag import report

    if level and level not in ("debug", "info", "warning", "error"):
        raise PqvpnError(Reason.USAGE, f"no level {level!r}", remedy="give debug, info, warning or error")
    asked = inquiry(context, config)
    seconds = _seconds(since, None)
    found = asked.logs(session=session, peer=peer, component=component, level=level, since=seconds, limit=limit)
    if json and not follow:
        output.print_json(report.headed("logs", {"events": [report.event(event) for event in found]}))
        return
    _events(found, asked, json)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for event in asked.follow(session=session, peer=peer, component=component, level=level):
                _events([event], asked, json)
    elif not found:
        show([report.Line("Nothing that fits is recorded.", "dim")])


def _events(events: Iterable[Any], asked: "Inquiry", json: bool) -> None:
    from pqvpn.diag import history, report

    for event in events:
        if json:
            import json as encoder

            print(encoder.dumps(report.event(event), ensure_ascii=False), flush=True)
        else:
            show(history.event_lines(event, asked.known.now, width(), peer=True))


@app.command(epilog=options.examples("pqvpn diag net", "pqvpn diag net --json", "pqvpn diag net --no-probe"))
def net(
    context: typer.Context,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Have the running node probe, or send nothing at all.")
    ] = True,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Probe what this network allows: UDP, path MTU, NAT, DNS, clock. Of a node that is down, show what was recorded.

    The node challenges each peer on its session, measures how large packets get through, and looks configured names up;
    eight seconds at most. Nothing goes to anybody else, and sessions are not disturbed.
    """
    from pqvpn.diag import kernel, netlines, report
    from pqvpn.diag import net as network

    known, probed, why, found = inquiry(context, config).known, None, "", []
    if opened:
        why = "it is read from a bundle"
    elif probe:
        where = places(context, config)
        with output.progress("asking the node to probe, 8 s at most"):
            probed, why = network.probe(known, where.runtime, client.request)
            found = [] if probed is not None else _look_up(where)
    told = network.document(known, found, probed, why, None if opened else kernel.clock())
    if json:
        output.print_json(report.headed("net", {"node": known.name, "knowledge": report.knowledge(known)} | told))
    else:
        show(netlines.lines(told, width()))


def _look_up(where: "Places") -> "list[Name]":
    """The configured names, asked for by this command; with `redact.addresses = "mask"` without addresses."""
    from dataclasses import replace

    from pqvpn.diag import net as network

    found = network.look_up(network.configured_hosts(where.configuration))
    if not network.masked(where.configuration):
        return found
    from pqvpn.telemetry.redaction import Policy, Redactor

    hide = Redactor(Policy("mask", b"", frozenset(each.host for each in found)))
    return [replace(each, host=hide.text(each.host), addresses=tuple(map(hide.text, each.addresses))) for each in found]


@app.command(epilog=options.examples("pqvpn diag metrics", "pqvpn diag metrics pqvpn.peer.rtt --since 1h"))
def metrics(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One instrument, with plots; else a list of all.")] = "",
    since: Since = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Show recorded metrics: all by name, or one with small plots."""
    from pqvpn.diag import nearest, report, series

    asked = inquiry(context, config)
    found = series.series(asked.metrics(since=_seconds(since, 3600.0)))
    names = list(dict.fromkeys(each.name for each in found))
    wanted = [each for each in names if name in (each, each.removeprefix("pqvpn."))] if name else names
    if name and not wanted:
        near = nearest.nearest(name, names)
        remedy = (
            f"known are, nearest first: {', '.join(near)}" if near else "none is recorded in that time; see --since"
        )
        raise PqvpnError(Reason.USAGE, f"no metric {name!r} is recorded", remedy=remedy)
    chosen = [each for each in found if each.name in wanted]
    if json:
        output.print_json(report.headed("metrics", {"series": series.document(chosen)}))
    elif not chosen:
        show([report.Line("No metrics are recorded in that time.", "dim")])
    else:
        show(series.details(chosen, width()) if name else series.overview(chosen, width()))


# -- what all share ----------------------------------------------------------------------------------------------------


def inquiry(context: typer.Context, config: Path | None) -> "Inquiry":
    """The bundle that is open, else the node with this configuration."""
    from pqvpn.diag import gather
    from pqvpn.diag.inquiry import Inquiry
    from pqvpn.telemetry.store import Store

    if opened:
        return opened[-1].inquiry()
    where = places(context, config)
    store = Store(where.state)
    return Inquiry(store, lambda: gather.gather(where, store, client.request, client.running_pid), store.follow)


def places(context: typer.Context, config: Path | None) -> "Places":
    """Where the things of the node are whose configuration is given here or before the subcommand."""
    from pqvpn.diag.gather import Places

    given = config or (context.parent.meta.get("config") if context.parent else None)
    return Places.of(options.config_path(given))


def _seconds(since: str | None, otherwise: float | None) -> Any:
    if since is None:
        return otherwise
    from pqvpn.config import units

    try:
        return units.parse_duration(since)
    except ValueError as error:
        raise PqvpnError(Reason.USAGE, f"--since {since}: {error}", remedy='write "90s", "10m", "2h" or "7d"') from None


def width() -> int:
    """Columns to write for: the terminal's, within reason, else 80."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST), _WIDEST) if sys.stdout.isatty() else 80


def show(lines: "Iterable[Line]") -> None:
    """Print lines, coloured where that is wanted; a terminal without the glyphs gets ASCII."""
    from pqvpn.diag import plots

    colours = output.coloured(sys.stdout)
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    for line in lines:
        text = line.text.translate(plots.ASCII) if plain else line.text
        colour = _COLOURS.get(line.style) if colours else None
        print(f"{colour}{text}{_PLAIN}" if colour and text else text, flush=False)


def _say_age(asked: "Inquiry") -> None:
    from pqvpn.diag import report

    show([*report.blank(), report.Line(f"({report.origin(asked.known)})", "dim")])
