"""What the tests of `pqvpn diag` share: a pair of nodes that record quickly, and waiting for what diag says first."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from netparty import make_nodes

from lab import Lab, wait_for
from lab.nodes import Node
from lab.waiting import WaitTimeoutError

TIMERS = {
    "m1_schedule": ["0s", "0.3s", "0.6s"],
    "m1_fresh_after": "1s",
    "m1_fresh_jitter": "0.1s",
    "reassembly": "0.5s",
}
QUICK = {
    "timers": TIMERS,
    "telemetry": {"flush_interval": "0.2s", "metrics_interval": "1s"},
    "health": {"interval": "0.5s", "mend": False},  # faults are to last
}
OUTER = ("10.0.0.1", "10.0.0.2")
INNER = ("10.7.0.1", "10.7.0.2")


@contextmanager
def two_nodes(
    a_host: str | None = OUTER[0], b_host: str | None = OUTER[1], **settings: Any
) -> Iterator[tuple[Node, Node]]:
    """alpha 10.0.0.1 --veth0-- 10.0.0.2 beta, not started; who has no host given is not known to the other."""
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, [f"{OUTER[0]}/24"], [f"{OUTER[1]}/24"])
        yield make_nodes(lab, a, b, a_host, b_host, {**QUICK, **settings})


def diagnose(node: Node) -> dict[str, Any]:
    """What `pqvpn diag --json` says. Its exit code must fit."""
    done = node.cli("diag", "--json", check=False)
    assert done.stderr == "", done.stderr
    told = dict(json.loads(done.stdout))
    assert done.returncode == (0 if told["healthy"] else 1)
    return told


def first(node: Node, code: str, peer: str = "", timeout: float = 30.0) -> dict[str, Any]:
    """Wait until the first verdict has this code, about this peer or the node itself; returns it."""
    told: dict[str, Any] = {}

    def probe() -> dict[str, Any] | None:
        told.clear()
        told.update(diagnose(node))
        verdict = next(iter(told["verdicts"]), None)
        subject = {"kind": "peer", "name": peer} if peer else {"kind": "node", "name": node.name}
        return verdict if verdict and (verdict["code"], verdict["subject"]) == (code, subject) else None

    try:
        found: dict[str, Any] = wait_for(f"{node.name}'s first verdict to be {code}", probe, timeout)
    except WaitTimeoutError as error:
        short = [(v["subject"]["name"], v["code"], v["evidence"]) for v in told.get("verdicts", ())]
        raise AssertionError(
            f"{error}; it says {short}, knows {told.get('peers')}, notes {told.get('knowledge')}"
        ) from None
    assert found["remedy"]
    assert len(found["evidence"]) <= 3
    return found


def healthy(node: Node, timeout: float = 30.0) -> dict[str, Any]:
    """Wait until nothing is wrong any more."""
    return wait_for(f"{node.name} to be healthy", lambda: (told := diagnose(node))["healthy"] and told, timeout)


def key_file(node: Node, name: str, number: int) -> str:
    """A file with 32 bytes that are the same for the same number."""
    file = node.folder / name
    file.touch(0o600)
    file.write_text(base64.b64encode(bytes((number + i) % 256 for i in range(32))).decode() + "\n")
    return name


def drop(node: Node, rule: str, hook: str = "input") -> None:
    """Drop what fits an nft rule."""
    chain = f"chain f {{\ntype filter hook {hook} priority 0;\n{rule} drop\n}}"
    node.namespace.nft(f"table inet t {{\n{chain}\n}}\n")


def undrop(node: Node) -> None:
    """Drop nothing any more."""
    node.namespace.nft("flush ruleset\n")


def evidence(verdict: dict[str, Any]) -> str:
    """All of a verdict's evidence as one text."""
    return " ".join(verdict["evidence"])
