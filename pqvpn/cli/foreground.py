"""`pqvpn up` in the foreground, which becomes the supervisor and stays: no typer in it.

Owns the plain way to write it: `up`, with at most a configuration. Every other spelling goes through typer, and is the same
but for the memory. Imports nothing that a supervisor does not need.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

COMPLETE: Final = "_PQVPN_COMPLETE"
"""The variable by which typer's completion scripts ask."""
CONFIG: Final = "PQVPN_CONFIG"
"""The variable that names the configuration where no option does."""


def asked(arguments: Sequence[str]) -> Path | None:
    """The configuration of the node to become; None: these words are something else, or typer shall say what is wrong."""
    from pqvpn.config import paths

    if COMPLETE in os.environ:
        return None
    match list(arguments):
        case ["up"]:
            given = os.environ.get(CONFIG)
            return Path(given) if given else paths.default_config()
        case ["up", "--config" | "-c", file] if file and not file.startswith("-"):
            return Path(file)
        case _:
            return None


def run(path: Path, *, debug: bool) -> int:
    """Be the node until it ends; returns its exit code. Raises PqvpnError when it cannot start."""
    from pqvpn.config import load

    loaded = load.load(path)
    from pqvpn import node

    return node.run(path, loaded, debug=debug)
