"""The entry point, and what happens to everything that goes wrong.

Owns exit codes (sysexits) and the last handler: nobody sees a stack trace who did not ask for one with `--debug`. The
commands are in `commands`.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pqvpn.cli import foreground, output
from pqvpn.errors import PqvpnError

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; `arguments` are those of the process by default."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    before_end = given.index("--") if "--" in given else len(given)
    options_given = given[:before_end]
    modes = output.Modes(json="--json" in options_given, debug="--debug" in options_given)
    rest = [word for word in options_given if word != "--debug"] + given[before_end:]
    sys.exit(_run(rest, modes))


def _run(arguments: list[str], modes: output.Modes) -> int:
    """Carry out one command; answers the exit code."""
    try:
        code = _carry_out(arguments, modes)
        sys.stdout.flush()  # a closed pipe shall show here, not while Python ends
    except BrokenPipeError:
        return _pipe_closed()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except PqvpnError as error:
        return _told(error, modes)
    except Exception as error:  # noqa: BLE001 - the outermost boundary
        from pqvpn.telemetry.crashes.telling import unexpected  # on errors only: commands start fast

        return _told(unexpected(error), modes)
    return code


def _told(error: PqvpnError, modes: output.Modes) -> int:
    """Tell of what ended the command; its exit code."""
    try:
        output.print_error(error, modes)
    except Exception:  # noqa: BLE001 - Python would write both exceptions, with their texts
        with contextlib.suppress(OSError):
            sys.stderr.write(f"error [{error.reason.code}]\n")
    return error.exit_code


def _carry_out(arguments: list[str], modes: output.Modes) -> int:
    """The command; what becomes a node does so without typer."""
    if (path := foreground.asked(arguments)) is not None:
        return foreground.run(path, debug=modes.debug)
    from pqvpn.cli.commands import invoke  # not before: the supervisor would keep typer for its whole life

    return invoke(arguments, modes)


def _pipe_closed() -> int:
    """Whoever read our output has seen enough. Python shall not complain when it flushes what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return os.EX_OK
