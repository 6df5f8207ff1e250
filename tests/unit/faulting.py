"""Faults by introspection: every public function and method of a package, and how to have one of them raise."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

CANARY = "tell-tale-8d1f"


@dataclass(frozen=True)
class Target:
    """A function: of a module, or of a class in it."""

    module: str
    owner: str  # the class, empty: none
    name: str

    def __str__(self) -> str:
        return ".".join(part for part in (self.module.removeprefix("pqvpn."), self.owner, self.name) if part)


def targets(package: str) -> list[Target]:
    """Every public function of a package, so that a new one is covered without a list."""
    found: list[Target] = []
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, value in sorted(vars(module).items()):
            if name.startswith("_") or getattr(value, "__module__", None) != info.name:
                continue
            if inspect.isfunction(value):
                found.append(Target(info.name, "", name))
            elif inspect.isclass(value):
                methods = [n for n, v in vars(value).items() if not n.startswith("_") and inspect.isfunction(v)]
                found += [Target(info.name, name, method) for method in sorted(methods)]
    return found


@contextmanager
def raising(target: Target, make: Callable[[], Exception]) -> Iterator[list[int]]:
    """Have the function raise wherever it is called from; gives the list of its calls."""
    calls: list[int] = []

    def fail(*_: Any, **__: Any) -> Any:
        calls.append(1)
        raise make()

    async def fail_later(*_: Any, **__: Any) -> Any:
        fail()

    module = sys.modules[target.module]
    holder: Any = getattr(module, target.owner) if target.owner else module
    original: FunctionType = vars(holder)[target.name]
    broken = fail_later if inspect.iscoroutinefunction(original) else fail
    places = [(holder, target.name)] if target.owner else list(_mentions(original))
    for place, name in places:
        setattr(place, name, broken)
    try:
        yield calls
    finally:
        for place, name in places:
            setattr(place, name, original)


def _mentions(function: FunctionType) -> Iterator[tuple[Any, str]]:
    for name, module in list(sys.modules.items()):
        if name.startswith("pqvpn"):
            for attribute, value in list(vars(module).items()):
                if value is function:
                    yield module, attribute
