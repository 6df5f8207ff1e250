"""Exceptions by their types and places: never a text, an argument, a note or a line of source.

Owns how an exception, and a stack trace that somebody has written out already, are told. A text may hold what a peer or an
operator wrote, and no pattern knows that.
"""

import re
from os.path import basename
from traceback import walk_tb
from types import TracebackType

_MOST_FRAMES = 32
_MOST_CAUSES = 8
_FRAME = re.compile(r'File "([^"\r\n]{0,512})", line (\d{1,9})(?:, in ([\w.<>]{1,128}))?')
_TOLD = re.compile(r"\s*((?:[\w./-]{1,128}\.py|<[\w. ]{1,64}>|\?):\d{1,9}(?: in |:)[\w.<>?]{1,128})\s*", re.ASCII)
_KIND = re.compile(r"(?<![^\s|+-])([A-Za-z_][\w.]{0,127})(?=:|\s|$)", re.ASCII)
_KINDS = ("Error", "Exception", "ExceptionGroup", "Exit", "Interrupt", "Refused", "Warning")
_PLACE = re.compile(r"[\w.<> -]{1,64}", re.ASCII)


def describe(error: BaseException) -> str:
    """`TypeError at a.py:3:f < b.py:7:g; after KeyError at ...`: innermost frame first, then what it came from."""
    parts: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(parts) < _MOST_CAUSES:
        seen.add(id(at))
        parts.append(_one(at))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "; after ".join(parts)


def kind(error: BaseException) -> str:
    """The type's name, with its module when that is not builtins."""
    made = type(error)
    module, name = str(made.__module__), str(made.__qualname__)
    text = name if module == "builtins" else f"{module}.{name}"
    return text if _PLACE.fullmatch(text) else "exception"


def stack_trace(text: str) -> str:
    """What may be told of a stack trace: each frame's file name, line and function, and types.

    In Python's own format, or as this package and crash reports tell frames.
    """
    found: list[str] = []
    for line in text.splitlines():
        if frame := _FRAME.search(line):
            found.append(_frame(frame[1], int(frame[2]), frame[3] or "?"))
        elif told := _TOLD.fullmatch(line):
            found.append(told[1])
        elif (named := _KIND.match(line.lstrip(" |+-"))) and named[1].endswith(_KINDS):
            found.append(named[1])
        if len(found) == _MOST_FRAMES * 2:
            break
    return "\n".join(found)


def _one(error: BaseException) -> str:
    frames = _frames(error.__traceback__)
    inner = f" of {', '.join(_inner(error))}" if isinstance(error, BaseExceptionGroup) else ""
    return f"{kind(error)}{inner}{' at ' if frames else ''}{' < '.join(frames)}"


def _inner(group: BaseExceptionGroup[BaseException]) -> list[str]:
    return [kind(each) for each in group.exceptions[:_MOST_CAUSES]]


def _frames(trace: TracebackType | None) -> list[str]:
    found = [_frame(f.f_code.co_filename, line, f.f_code.co_name) for f, line in walk_tb(trace)]
    return found[: -_MOST_FRAMES - 1 : -1]


def _frame(file: str, line: int, function: str) -> str:
    name = basename(file)
    return f"{name if _PLACE.fullmatch(name) else '?'}:{line}:{function if _PLACE.fullmatch(function) else '?'}"
