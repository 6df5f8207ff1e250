"""When the lab takes a process as ended."""

import subprocess
import sys

from lab.waiting import ended, wait_for


def test_a_process_has_ended_when_it_is_a_zombie_or_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not ended([process.pid])
        process.kill()
        wait_for("the zombie", lambda: ended([process.pid]))
        process.wait()
        assert ended([process.pid])
        assert ended([])
