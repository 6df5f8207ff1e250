"""What a child gives up, read back from the kernel in a process of its own."""

import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

import pytest

LOOK = """
import json, os, resource, sys
from pqvpn.host import privileges
from pqvpn.host.privileges import Capability
{act}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import ctypes
libc = ctypes.CDLL(None)
found = {{k: status[k].strip() for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")}}
found["dumpable"] = libc.prctl(3, 0, 0, 0, 0)
found["core"] = resource.getrlimit(resource.RLIMIT_CORE)
signal_number = ctypes.c_int()
libc.prctl(2, ctypes.byref(signal_number), 0, 0, 0)
found["death_signal"] = signal_number.value
found["mem_owner"] = os.stat("/proc/self/mem").st_uid
print(json.dumps(found))
"""
NET_ADMIN, DAC_READ_SEARCH = 1 << 12, 1 << 2


def after(act: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", LOOK.format(act=act)], capture_output=True, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {k: int(v, 16) for k, v in found.items() if k.startswith("Cap")}


@pytest.fixture(scope="module")
def bare() -> dict[str, Any]:
    return after("")


def test_confine_takes_everything() -> None:
    found = after("privileges.confine(os.getppid())")
    assert {k: v for k, v in found.items() if k in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
        "CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0,
    }  # fmt: skip
    assert found["NoNewPrivs"] == "1"
    assert found["dumpable"] == 0
    assert found["core"] == [0, 0]
    assert found["death_signal"] == signal.SIGKILL


def test_the_bounding_set_is_empty_where_it_can_be_changed(bare: dict[str, Any]) -> None:
    may_change = bare["CapEff"] & (1 << 8)  # CAP_SETPCAP
    assert after("privileges.confine(os.getppid())")["CapBnd"] == (0 if may_change else bare["CapBnd"])


def test_keep_only_keeps_those_and_grants_none(bare: dict[str, Any]) -> None:
    found = after("privileges.keep_only(frozenset({Capability.NET_ADMIN, Capability.DAC_READ_SEARCH}))")
    kept = bare["CapPrm"] & (NET_ADMIN | DAC_READ_SEARCH)
    assert (found["CapEff"], found["CapPrm"], found["CapInh"], found["CapAmb"]) == (kept, kept, 0, 0)
    found = after("privileges.keep_only(frozenset()); privileges.keep_only(frozenset({Capability.NET_ADMIN}))")
    assert found["CapEff"] == found["CapPrm"] == 0


def test_a_program_started_later_wins_nothing_back() -> None:
    act = "privileges.confine(os.getppid()); os.execvp('cat', ['cat', '/proc/self/status'])"
    done = subprocess.run([sys.executable, "-c", LOOK.format(act=act)], capture_output=True, check=True, text=True)
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert status["Name"] == "cat"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_nothing_is_given_up_unasked(bare: dict[str, Any]) -> None:
    assert bare["NoNewPrivs"] == "0"
    assert bare["dumpable"] == 1
    assert bare["death_signal"] == 0


CHILD = """
import os, sys, time
from pqvpn.host import privileges
privileges.die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())]).wait()"


def test_a_child_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        descriptor = os.pidfd_open(int(running.stdout.readline()))
        assert select.select([descriptor], [], [], 0)[0] == []
        running.kill()
        assert select.select([descriptor], [], [], 5)[0] == [descriptor]
        os.close(descriptor)


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    act = "import os; from pqvpn.host import privileges; privileges.die_with_parent(1 if os.getppid() != 1 else 2)"
    done = subprocess.run([sys.executable, "-c", act + "; print('alive')"], capture_output=True)
    assert done.returncode == os.EX_UNAVAILABLE
    assert done.stdout == b""
