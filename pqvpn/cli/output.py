"""How results and errors look: text for people, JSON for programs.

Owns the format of both. Errors go to stderr, as code, place, what and remedy; colour only on a terminal and never when
NO_COLOR is set (no-color.org).
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from pqvpn.errors import ConfigErrors, PqvpnError

_RED, _BOLD, _PLAIN = "\033[31m", "\033[1m", "\033[0m"


@dataclass(frozen=True, slots=True)
class Modes:
    """What was asked for on any command line: errors as JSON, stack traces."""

    json: bool = False
    debug: bool = False


class RefusedError(PqvpnError):
    """A request that the running node refused; `errors` are its reasons, never empty."""

    def __init__(self, errors: tuple[PqvpnError, ...]) -> None:
        super().__init__(errors[0].reason, errors[0].detail, place=errors[0].place, remedy=errors[0].remedy)
        self.errors = errors


def coloured(stream: IO[str]) -> bool:
    """Whether to colour what goes to `stream`."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def parts(error: PqvpnError) -> Sequence[PqvpnError]:
    """The single errors of an error that may hold several."""
    return error.errors if isinstance(error, ConfigErrors | RefusedError) else (error,)


def as_dict(error: PqvpnError) -> dict[str, str]:
    """One error as JSON shows it; the same names as on the control socket."""
    return {
        "code": error.reason.code,
        "place": _shown(error.place),
        "text": error.reason.text,
        "detail": _shown(error.detail),
        "remedy": _shown(error.remedy),
    }


def _shown(text: str) -> str:
    """Without keys and tokens: an operator may have written one where it does not belong."""
    from pqvpn.telemetry.redaction import without_secrets  # on errors only: commands start fast

    return without_secrets(text)


def print_error(error: PqvpnError, modes: Modes) -> None:
    """Tell an error on stderr, all of its parts, and with `--debug` where it was raised."""
    if modes.debug:
        print(*map(_shown, _trace(error)), sep="", end="", file=sys.stderr)
    if modes.json:
        value = {"ok": False, "exit_code": error.exit_code, "errors": [as_dict(part) for part in parts(error)]}
        print(json.dumps(value, indent=2, ensure_ascii=False), file=sys.stderr)
        return
    red, bold, plain = (_RED, _BOLD, _PLAIN) if coloured(sys.stderr) else ("", "", "")
    for part in parts(error):
        told = as_dict(part)
        place = f"{bold}{told['place']}{plain}: " if told["place"] else ""
        print(f"{red}error{plain} [{told['code']}] {place}{told['detail'] or told['text']}", file=sys.stderr)
        print(f"  remedy: {told['remedy']}", file=sys.stderr)


def _trace(error: BaseException) -> list[str]:
    """Where an error and its causes were raised, causes first; of texts only ours: others may hold anything."""
    import traceback

    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.insert(0, at)
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    lines: list[str] = []
    for each in chain:
        said = f": {each}" if isinstance(each, PqvpnError) else ""
        lines += ["Traceback (most recent call last):\n", *traceback.format_tb(each.__traceback__)]
        lines.append(f"{type(each).__qualname__}{said}\n")
    return lines


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Say on a terminal what is waited for, and how long it has taken; nothing is left of it afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    import threading
    import time

    ended, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(0.2):
            with contextlib.suppress(Exception):  # the terminal is gone
                print(f"\r{what} ({time.monotonic() - began:.0f} s)", end="", file=sys.stderr, flush=True)

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    try:
        yield
    finally:
        ended.set()
        telling.join()
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text."""
    wide = widths(head, rows)
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, wide, strict=True)).rstrip() for row in (head, *rows)
    )


def widths(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """How wide each column is."""
    return [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
