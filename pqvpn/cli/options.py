"""Options that several commands share.

Owns their names and help. Knows nothing of what commands do.
"""

from pathlib import Path
from typing import Annotated

import typer

from pqvpn.cli import foreground
from pqvpn.config import paths

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar=foreground.CONFIG,
        help="Configuration file; by default /etc/pqvpn/pqvpn.toml as root, else ~/.config/pqvpn/pqvpn.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, errors on stderr included.")]


def config_path(given: Path | None) -> Path:
    """The configuration file meant: the one given, else the default."""
    return given if given is not None else paths.default_config()


def examples(*lines: str) -> str:
    """An epilog for --help; the first character keeps the lines from being joined."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
