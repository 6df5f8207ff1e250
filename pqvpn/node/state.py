"""What one supervisor leaves to the next across an exec: descriptors, children, and where the upgrade stands.

Owns the record and the sealed memfd in which it crosses; `FORMAT` changes with it and with every message between
processes, so that two versions that do not understand each other refuse beforehand. Holds no key: the children keep
theirs, and the configuration is read again.
"""

import fcntl
import os

import msgspec

FORMAT = 1
_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # no more seals, no shrinking, no growing, no writing


class ChildState(msgspec.Struct, frozen=True):
    """A process that runs. `link`, `last_words`: descriptors; `version`: of the code it runs."""

    name: str
    pid: int
    started_at: float
    restarts: int
    link: int
    last_words: int
    version: str


class Code(msgspec.Struct, frozen=True):
    """A version of the program: the interpreter in whose environment it is installed."""

    python: str
    version: str


class State(msgspec.Struct, frozen=True):
    """Everything. Numbers are descriptors that stay open across the exec."""

    format: int
    config: str
    debug: bool
    parts: dict[str, float]
    claim: int
    api: int
    kept: dict[str, int]  # as in `takeover`
    lane_links: list[tuple[int, int]]
    crossover: list[dict[str, int]]
    icmp: list[int]
    observing: list[int]  # link (two), health socket, health port; -1: none
    children: list[ChildState]
    variables: dict[str, str]  # of the service manager
    request: str
    former: Code
    began: float
    log_levels: tuple[tuple[str, str, float | None], ...] = ()  # what operators set: area, level, seconds left
    refused: str = ""  # why the newer version was given up; empty: this one is on trial

    def descriptors(self) -> set[int]:
        """All of them."""
        found = {self.claim, self.api, *self.kept.values(), *self.icmp, *self.observing}
        found |= {end for pair in self.lane_links for end in pair}
        found |= {end for ends in self.crossover for end in ends.values()}
        found |= {place for child in self.children for place in (child.link, child.last_words)}
        return found - {-1}


def write(state: State) -> int:
    """A sealed memfd with the state; every descriptor in it, and the memfd, are inherited from now on. Raises OSError."""
    memory = os.memfd_create("pqvpn-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, msgspec.msgpack.encode(state))
    fcntl.fcntl(memory, _F_ADD_SEALS, _SEALS)
    for descriptor in (memory, *state.descriptors()):
        os.set_inheritable(descriptor, True)
    return memory


def read(memory: int) -> State:
    """The state in a memfd. Raises ValueError when it is none of ours, or of another format."""
    data = os.pread(memory, os.fstat(memory).st_size, 0)
    if msgspec.msgpack.decode(data).get("format") != FORMAT:
        raise ValueError("a state of another format")
    return msgspec.msgpack.decode(data, type=State)


def keep_only(descriptors: set[int]) -> None:
    """Close whatever else came across an exec, and let no later child inherit the rest."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number <= 2:
            continue
        try:
            if number in descriptors:
                os.set_inheritable(number, False)
            else:
                os.close(number)
        except OSError:  # the descriptor of the listing itself
            continue


def with_refusal(state: State, refused: str) -> State:
    """The state as the former version takes it up again."""
    return msgspec.structs.replace(state, refused=refused)
