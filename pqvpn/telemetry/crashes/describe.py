"""What may be told of a failure: types, places and frames, never a text or a local.

Owns making `Crashed` facts of exceptions and of what `faulthandler` wrote. Imports nothing heavy: every process uses it at
its boundary. Texts of exceptions are left out because they may hold what a peer or an operator sent.
"""

import re
import threading
from os.path import basename
from traceback import walk_tb
from types import TracebackType

from pqvpn.errors import PqvpnError
from pqvpn.facts import Crashed
from pqvpn.reasons import Reason

MOST_FRAMES = 64
_MOST_CAUSES = 8
_NATIVE_FRAME = re.compile(r'^  File "([^"\n]{1,400})", line (\d{1,9}) in ([^\n]{1,200})$', re.MULTILINE)
_EXCEPTION = "Fatal exception: "
_EXCEPTION_LINE = re.compile(r"^Fatal exception: ([\w.<>]{1,200})$", re.MULTILINE)
_SIGNALS = {
    "Segmentation fault": "SIGSEGV", "Aborted": "SIGABRT", "Bus error": "SIGBUS", "Illegal instruction": "SIGILL",
    "Floating-point exception": "SIGFPE", "Floating point exception": "SIGFPE",
}  # fmt: skip
_NATIVE_HEAD = re.compile(r"^(?:Current thread|Thread|Fatal Python error|Stack \(most recent)[^\n]*", re.MULTILINE)


def exception(error: BaseException, process: str, *, handled: bool, kind: str = "exception") -> Crashed:
    """The fact of an exception that reached a boundary. `handled`: the process goes on."""
    frames = frames_of(error.__traceback__)
    if isinstance(error, MemoryError):
        kind = "out_of_memory"
    return Crashed(
        kind=kind,
        process=process,
        reason=_reason_of(error),
        error=_type_of(error),
        place=frames[-1].partition(" in ")[0] if frames else "",
        frames=frames,
        chain=tuple(_causes(error)),
        thread=threading.current_thread().name,
        handled=handled,
    )


def last_words(kind: type[BaseException], trace: TracebackType | None) -> str:
    """An exception that ends a process, as `faulthandler` would write it: `native` reads it, `error_in` finds its type."""
    frames = [f'  File "{f.f_code.co_filename}", line {line} in {f.f_code.co_qualname}' for f, line in walk_tb(trace)][
        -MOST_FRAMES:
    ]
    return "\n".join((f"{_EXCEPTION}{_name_of(kind)}", "", "Current thread:", *reversed(frames), ""))


def error_in(dump: str) -> str:
    """The type of the exception in `last_words`, or the signal's name in `faulthandler`'s dump; empty: neither."""
    found = _EXCEPTION_LINE.search(dump)
    if found:
        return found[1]
    return next((name for text, name in _SIGNALS.items() if f"Fatal Python error: {text}" in dump), "")


def frames_of(trace: TracebackType | None) -> tuple[str, ...]:
    """Frames as "pqvpn/control/process.py:88 in run", outermost first; the innermost ones when there are many."""
    found = [_frame(f.f_code.co_filename, line, f.f_code.co_qualname) for f, line in walk_tb(trace)]
    return tuple(found[-MOST_FRAMES:])


def native(dump: str) -> tuple[str, ...]:
    """Frames of the current thread in `faulthandler`'s dump (innermost first there), outermost first."""
    current = dump.find("Current thread")
    start = current if current >= 0 else 0
    part = dump[start:]
    heads = [m.start() for m in _NATIVE_HEAD.finditer(part)]
    end = heads[1] if len(heads) > 1 else len(part)
    found = [_frame(file, int(line), function) for file, line, function in _NATIVE_FRAME.findall(part[:end])]
    return tuple(reversed(found[:MOST_FRAMES]))


def _frame(file: str, line: int, function: str) -> str:
    return f"{_relative(file)}:{line} in {function}"


def _relative(file: str) -> str:
    """The file from the package on: where an installation lies is nobody's business."""
    for root in ("site-packages/", "dist-packages/"):
        _, found, rest = file.rpartition(root)
        if found:
            return rest
    _, found, rest = file.rpartition("/pqvpn/")
    if found:
        return f"pqvpn/{rest}"
    _, found, rest = file.rpartition("/lib/python")
    if found:
        return rest.partition("/")[2]
    return basename(file)


def _reason_of(error: BaseException) -> Reason:
    if isinstance(error, MemoryError):
        return Reason.OUT_OF_MEMORY
    return error.reason if isinstance(error, PqvpnError) else Reason.INTERNAL


def _type_of(error: BaseException) -> str:
    return _name_of(type(error))


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _causes(error: BaseException) -> list[str]:
    found: list[str] = []
    seen = {id(error)}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while cause is not None and id(cause) not in seen and len(found) < _MOST_CAUSES:
        seen.add(id(cause))
        found.append(_type_of(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return found
