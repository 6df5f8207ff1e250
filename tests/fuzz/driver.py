"""Runs fuzz targets: with atheris where it is installed, else with random mutations of the corpus, always the same ones.

Owns mutation, the corpus on disk and the limits that hold for every input (no exception but what the target allows, a
few seconds, bounded memory). Knows nothing of what a target checks: a target is a module in `targets/` with a function
`check(data)` that raises when its invariant, the first line of the module, is broken.
"""

import importlib
import pkgutil
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

LONGEST = 8192
"""Bytes of an input; parsers of datagrams need no more, and limits on long text are unit tests."""
SLOWEST = 5.0
"""Seconds that one input may take."""
MEMORY = 64 << 10
"""KiB that the process may grow by while a target runs."""

_CORPUS = Path(__file__).parent / "corpus"
_TARGETS = Path(__file__).parent / "targets"
_EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 254, 255)
_WORDS = (
    b"\0\0",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    bytes(8),
    b"\xff" * 8,
    b"\0" * 16,
    b"\x7f\xff",
    b"\x80\0",
)


class BrokenInvariantError(AssertionError):
    """A target failed on `data`; the text shows how to run it again."""

    def __init__(self, name: str, data: bytes, why: str) -> None:
        super().__init__(f"{name}: {why}\n  input of {len(data)} bytes: {data.hex()}")
        self.data = data


def names() -> list[str]:
    """Every target's name, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules([str(_TARGETS)]))


def load(name: str) -> ModuleType:
    """The target's module."""
    return importlib.import_module(f"tests.fuzz.targets.{name}")


def corpus_folder(name: str) -> Path:
    """Where the target's seeds are, one input a file."""
    return _CORPUS / name


def corpus(name: str) -> list[bytes]:
    """The target's seeds in the order of their file names."""
    return [path.read_bytes() for path in sorted(corpus_folder(name).iterdir())]


def once(name: str, check: Callable[[bytes], None], data: bytes) -> None:
    """Check one input. Raises BrokenInvariantError."""
    began = time.monotonic()
    try:
        check(data)
    except Exception as error:
        raise BrokenInvariantError(name, data, f"{type(error).__name__}: {error}") from error
    took = time.monotonic() - began
    if took > SLOWEST:
        raise BrokenInvariantError(name, data, f"took {took:.1f} s")


def replay(name: str, *, seed: int, inputs: int | None = None, seconds: float | None = None) -> int:
    """Check the corpus, then mutations of it: so many inputs, or as many as fit into a time. Returns their number.

    The same `seed` makes the same inputs on every machine. Raises BrokenInvariantError.
    """
    target = load(name)
    seeds = corpus(name)
    before = _peak()
    ends = None if seconds is None else time.monotonic() + seconds
    done = 0
    for data in _inputs(seeds, random.Random(f"{name} {seed}"), tuple(getattr(target, "TOKENS", ()))):
        if (inputs is not None and done >= inputs) or (ends is not None and time.monotonic() >= ends):
            break
        once(name, target.check, data)
        done += 1
        if _peak() - before > MEMORY:
            raise BrokenInvariantError(name, data, f"the process grew by more than {MEMORY >> 10} MiB")
    return done


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _inputs(seeds: list[bytes], chance: random.Random, tokens: tuple[bytes, ...]) -> Iterator[bytes]:
    yield b""
    yield from seeds
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(1 << chance.randrange(5)):
            _mutate(data, chance, seeds, tokens)
        yield bytes(data[:LONGEST])


def _mutate(data: bytearray, chance: random.Random, seeds: list[bytes], tokens: tuple[bytes, ...]) -> None:
    """One change in place; early bytes, where headers are, are changed more often."""
    at = int(len(data) * chance.random() ** chance.choice((1, 3)))
    match chance.randrange(9):
        case 0 if data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        case 1 if data:
            data[min(at, len(data) - 1)] = chance.choice(_EDGES)
        case 2 if data:
            data[min(at, len(data) - 1)] = chance.randrange(256)
        case 3:
            del data[at : at + 1 + int(chance.expovariate(0.1))]
        case 4:
            data[at:at] = chance.randbytes(1 + int(chance.expovariate(0.2)))
        case 5:
            data[at:at] = data[at : at + chance.randrange(1, 64)]
        case 6:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at : at + chance.randrange(64)] = other[start : start + chance.randrange(64)]
        case 7:
            word = chance.choice(tokens or _WORDS)
            data[at : at + chance.choice((0, len(word)))] = word
        case _:
            word = chance.choice(_WORDS)
            data[at : at + len(word)] = word
