"""Faults by introspection: every public function and method of a package, and how to have one of them raise.

Owns three things: what is public, what of it a piece of work calls (`watching`), and the fault itself (`raising`). A fault
stands in the function's code and not in its name, so that it is met by whoever calls it, however the caller came by it.
"""

import errno
import importlib
import inspect
import os
import pkgutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import CodeType, FrameType, FunctionType
from typing import Any

from pqvpn.errors import NetworkError, PqvpnError, TelemetryError
from pqvpn.reasons import Reason

CANARY = "tell-tale-8d1f"
PACKAGES = ("pqvpn.host", "pqvpn.control", "pqvpn.telemetry", "pqvpn.diag")
KINDS = ("unexpected", "os", "family")
"""What is raised: what nobody foresaw, the kernel's refusal, an error of the package's own class."""
FAMILIES: dict[str, tuple[type[PqvpnError], Reason]] = {
    "pqvpn.host": (NetworkError, Reason.KERNEL_REFUSED),
    "pqvpn.control": (PqvpnError, Reason.REQUEST_REFUSED),
    "pqvpn.telemetry": (TelemetryError, Reason.RECORDS_DROPPED),
    "pqvpn.diag": (PqvpnError, Reason.BUNDLE_UNREADABLE),
}
_ANY = (PqvpnError, Reason.REQUEST_REFUSED)
_CALLED = ("__call__", "__enter__", "__exit__", "__iter__", "__next__")
"""What is public although its name is not."""


@dataclass(frozen=True, order=True)
class Target:
    """A function: of a module, or of a class in it."""

    module: str
    owner: str  # the class, empty: none
    name: str

    def __str__(self) -> str:
        return ".".join(part for part in (self.module.removeprefix("pqvpn."), self.owner, self.name) if part)

    @property
    def package(self) -> str:
        return ".".join(self.module.split(".")[:2])

    @property
    def function(self) -> FunctionType:
        """The plain function that is called in the end."""
        module = sys.modules[self.module]
        found = _plain(vars(getattr(module, self.owner) if self.owner else module)[self.name])
        assert found is not None
        return found

    def error(self, kind: str, text: str = CANARY) -> Exception:
        """What it raises; the text is in its own, but for the kernel's words (`strerror`), which hold no secret."""
        if kind == "unexpected":
            return RuntimeError(text)
        if kind == "os":
            return OSError(errno.EIO, os.strerror(errno.EIO), text)
        family, reason = FAMILIES.get(self.package, _ANY)
        error = family(reason)
        error.__context__ = RuntimeError(text)
        return error

    def told(self, kind: str) -> Reason:
        """The code by which that must be told, by the table of docs/reasons.md."""
        if kind == "family":
            return FAMILIES.get(self.package, _ANY)[1]
        return Reason.INTERNAL if kind == "unexpected" else Reason.KERNEL_REFUSED


@cache
def targets(*packages: str) -> tuple[Target, ...]:
    """Every public function of packages, so that a new one is covered without a list."""
    found: set[Target] = set()
    for package in packages or PACKAGES:
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}."):
            found.update(_of_module(importlib.import_module(info.name)))
    return tuple(sorted(found))


def _of_module(module: Any) -> Iterator[Target]:
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            if getattr(value, "_is_protocol", False):
                continue  # says what others have, and is never called itself
            for method, what in vars(value).items():
                public = not method.startswith("_") or method in _CALLED
                if public and (plain := _plain(what)) and plain.__code__.co_filename == module.__file__:
                    yield Target(module.__name__, name, method)
        elif _plain(value):
            yield Target(module.__name__, "", name)


def _plain(value: Any) -> FunctionType | None:
    """The function in what a class or a module holds: behind a property, a class method, a cache."""
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    value = inspect.unwrap(value) if callable(value) and not inspect.isclass(value) else value
    return value if isinstance(value, FunctionType) else None


@contextmanager
def watching(among: Iterable[Target]) -> Iterator[set[Target]]:
    """Which of them are called meanwhile, in this thread and in those that are started meanwhile."""
    codes = {target.function.__code__: target for target in among}
    reached: set[Target] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (target := codes.get(frame.f_code)):
            reached.add(target)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield reached
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type] # it may be unset


@contextmanager
def raising(target: Target, *kinds: str, text: str = CANARY) -> Iterator[list[str]]:
    """Have the function raise whoever calls it, one kind after the other; gives what was raised so far."""
    raised: list[str] = []

    def error() -> Exception:
        kind = kinds[len(raised) % len(kinds)]
        raised.append(kind)
        return target.error(kind, text)

    function = target.function
    original = function.__code__
    function.__code__ = _raiser(original, error)
    try:
        yield raised
    finally:
        function.__code__ = original


def _raiser(original: CodeType, error: Callable[[], Exception]) -> CodeType:
    """Code that raises what `error` makes, whatever it is given, and closes over as much as the original does: in its place."""
    cells = [f"c{n}" for n in range(len(original.co_freevars))]
    lines = [
        "def outer(*_):",
        *(f"  {cell} = None" for cell in cells),
        f"  {'async ' if inspect.CO_COROUTINE & original.co_flags else ''}def f(*_, **__):",
        f"    ({''.join(f'{cell}, ' for cell in cells)})",
        "    raise 'ERROR'()",
        "  return f",
    ]
    space: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "'str' object is not callable": it will be something that is
        exec("\n".join(lines), space)  # a template with nothing in it but names of ours
    code: CodeType = space["outer"]().__code__
    return code.replace(
        co_consts=tuple(error if const == "ERROR" else const for const in code.co_consts),
        co_name=original.co_name,
        co_qualname=original.co_qualname,
        co_filename=original.co_filename,
        co_firstlineno=original.co_firstlineno,
    )
