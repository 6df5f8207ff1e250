"""One thread for everything that may wait for the disk, or for anything else together.

Owns the thread and its queue of named jobs: one that waits already is not queued twice, so a disk that hangs costs
neither memory nor the loop that reads facts. Knows nothing of what the jobs do.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST_JOBS: Final = 64

Job = Callable[[], None]


class Worker:
    """Runs jobs in order. `failed` is called, in the thread, with the name and the error of a job that raised."""

    def __init__(
        self, clock: Callable[[], float], failed: Callable[[str, Exception], None], name: str = "disk"
    ) -> None:
        self._clock = clock
        self._failed = failed
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._wake = threading.Condition()
        self._ending = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, name: str, job: Job) -> bool:
        """Queue a job; one of the same name that still waits stands for it. False when the queue is full."""
        with self._wake:
            if name in self._jobs:
                return True
            if len(self._jobs) >= MOST_JOBS:
                return False
            self._jobs[name] = job
            self._wake.notify()
        return True

    def hung(self, now: float) -> float:
        """For how many seconds the present job has been running, 0.0 when there is none."""
        began = self._busy_since
        return 0.0 if began is None else max(0.0, now - began)

    def end(self, seconds: float) -> bool:
        """Do what is queued and end; answers whether all was done within so many seconds."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._jobs and not self._ending:
                    self._wake.wait()
                if not self._jobs:
                    return
                name, job = self._jobs.popitem(last=False)
            try:
                self._busy_since = self._clock()
                job()
            except Exception as error:  # noqa: BLE001 - the thread's boundary: one job must not end the others
                with contextlib.suppress(Exception):  # nor must telling of it
                    self._failed(name, error)
            finally:
                self._busy_since = None
