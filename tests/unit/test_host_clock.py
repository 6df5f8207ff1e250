"""The one clock: CLOCK_BOOTTIME, in seconds and nanoseconds, and the start of this process on it."""

import os
import subprocess
import sys
import time

from pqvpn.host import clock


def test_it_is_the_time_since_boot_and_runs_forward() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    seconds, nanoseconds = clock.now(), clock.now_ns()
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= seconds <= nanoseconds / 1e9 + 1e-6 <= after + 2e-6


def test_the_start_of_a_process_lies_between_its_spawning_and_its_first_line() -> None:
    before = clock.now()
    code = "from pqvpn.host import clock; print(clock.process_started_at(), clock.now())"
    started, told = map(float, subprocess.check_output([sys.executable, "-c", code]).split())
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert before - tick <= started <= told
