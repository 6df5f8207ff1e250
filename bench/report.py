"""The results: a table for people, a JSON file for machines, a drawing."""

import datetime
import json
import os
import pathlib
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from bench import plot
from bench.figures import FIGURES, REFERENCE, SUBJECT, Verdict, judge, median, ratios, summary
from bench.rounds import Plan, Results

FOLDER = pathlib.Path(__file__).resolve().parent / "results"


def write(plan: Plan, results: Results) -> tuple[pathlib.Path, pathlib.Path]:
    """Write latest.json and latest.svg; returns their paths."""
    FOLDER.mkdir(exist_ok=True)
    figures = summary(results.rounds, list(results.versions))
    document = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "plan": asdict(plan),
        **{key: value for key, value in asdict(results).items() if key != "rounds"},
        "figures": figures,
        "rounds": results.rounds,
    }
    as_json, as_svg = FOLDER / "latest.json", FOLDER / "latest.svg"
    as_json.write_text(json.dumps(document, indent=1) + "\n")
    as_svg.write_text(plot.draw(figures, SUBJECT, REFERENCE))
    return as_json, as_svg


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _bars(verdicts: Sequence[Verdict]) -> str:
    words = {True: "[green]met[/green]", False: "[red]MISSED[/red]", None: "[yellow]not measured[/yellow]"}
    lines = []
    for verdict in verdicts:
        value = "" if verdict.value is None else f"{_cell(verdict.value)}{'x' if verdict.bar.against else ''} "
        lines.append(f"{verdict.bar}: {value}{words[verdict.met]}")
    return "\n".join(lines)


def show(results: Results) -> None:
    """Print the table, the parts of the start, what was left out and what failed."""
    console = Console(width=max(Console().width, 110))
    names = list(results.versions)
    table = Table(title=f"Medians of {len(results.rounds)} interleaved rounds; ratios are medians of paired rounds")
    table.add_column("figure")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("bar: median, met or not")
    verdicts = judge(results.rounds)
    for figure in FIGURES:
        cells = []
        for name in names:
            cell = _cell(median(results.rounds, name, figure.key))
            paired = ratios(results.rounds, figure.key, name, REFERENCE) if name == SUBJECT else []
            cells.append(cell + (f" ({min(paired):.2f}-{max(paired):.2f}x)" if paired else ""))
        title = f"{figure.title}, {figure.unit}" if figure.unit else figure.title
        table.add_row(title, *cells, _bars([v for v in verdicts if v.figure is figure]))
    console.print(table)
    if results.parts:
        medians = {key: statistics.median(each[key] for each in results.parts) for key in results.parts[0]}
        told = ", ".join(f"{key} {value * 1000:.0f} ms" for key, value in medians.items())
        console.print(f"Parts of pqvpn's start (medians): {told}.")
    console.print("Measured: " + ", ".join(results.versions.values()) + ".")
    for name, why in results.left_out.items():
        console.print(f"Left out: {name}: {why}")
    for failure in results.failures:
        console.print(f"Failed: {failure}", markup=False)
    if results.load > 0.5 * (os.cpu_count() or 1):
        console.print(f"The machine was busy before (load {results.load:.1f}): take the figures with care.")
    console.print("veth passes joined segments uncut, which flatters every product with offload.")
