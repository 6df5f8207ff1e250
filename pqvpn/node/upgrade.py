"""Live upgrade: another version takes this supervisor's place by exec, and the former one takes it back when it must.

Owns the request (a file and SIGUSR2, so that no process that parses packets can ask for it), the self-check of the new
version, the exec, the trial and the way back. What is handed over is `state.py`, how processes are replaced is
`renewal.py`. The result is a file beside the request, since control itself is replaced meanwhile.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pqvpn import __version__
from pqvpn.config import paths
from pqvpn.errors import PqvpnError
from pqvpn.facts import FactHook, NodeUpgraded, Problem
from pqvpn.host.clock import now
from pqvpn.node import renewal, state
from pqvpn.reasons import Reason

SIGNAL: Final = signal.SIGUSR2
SIGNALS: Final = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, SIGNAL))
"""Blocked across the exec, where they would end the node."""
_CHECK_SECONDS: Final = 30.0

HandOver = Callable[[str, state.Code, str], state.State]


class Upgrade:
    """One supervisor's part in upgrades. `due`: when `look` wants to be called, None: never."""

    def __init__(
        self, folder: Path, config: Path, selector: selectors.BaseSelector, publish: FactHook, hand_over: HandOver
    ) -> None:
        self._folder = folder
        self._config = config
        self._selector = selector
        self._publish = publish
        self._hand_over = hand_over
        self._check: subprocess.Popen[bytes] | None = None
        self._check_until = 0.0
        self._pidfd = -1
        self._python = ""
        self._request = ""
        self._resumed: state.State | None = None
        self._renewal: renewal.Renewal | None = None
        self.began = 0.0
        self.wanted = False  # asked for by a signal
        self.due: float | None = None

    @property
    def begun(self) -> bool:
        """Whether processes of the other version may have been replaced."""
        return self._resumed is not None

    @property
    def on_trial(self) -> bool:
        """Whether this version has yet to prove itself, and the former one would go on otherwise."""
        return self._resumed is not None and not self._resumed.refused and self._renewal is not None

    # -- asked ---------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Read the request and have the new version check itself."""
        self.wanted = False
        try:
            asked = json.loads(paths.upgrade_request(self._folder).read_text(encoding="utf-8"))
            request, python = str(asked["id"]), str(asked["python"] or sys.executable)
        except (OSError, ValueError, KeyError, TypeError):
            self._publish(Problem(Reason.UPGRADE_REFUSED, "supervisor", "there is no request"))
            return
        if self._check is not None or self._renewal is not None:
            self._say("refused", request, detail="an upgrade is under way", code=Reason.UPGRADE_REFUSED.code)
            return
        self._request, self._python, self.began = request, python, now()
        self._say("checking", request)
        command = [python, "-I", "-m", "pqvpn.node.selfcheck", str(self._config)]
        try:
            self._check = subprocess.Popen(  # noqa: S603 - the operator's choice, by a file that only the node's user can write
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
            )
        except OSError as error:
            self._refuse(f"{python}: {error.strerror}")
            return
        self._check_until = self.due = now() + _CHECK_SECONDS
        self._pidfd = os.pidfd_open(self._check.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._checked)

    def _checked(self) -> None:
        check, self._check = self._check, None
        self._selector.unregister(self._pidfd)
        os.close(self._pidfd)
        self.due = None
        if check is None:
            return
        out, err = check.communicate()
        answer = _answer(out)
        if check.returncode != 0 or "version" not in answer:
            lines = err.decode("utf-8", "replace").strip().splitlines()
            self._refuse(str(answer.get("refused") or (lines[-1] if lines else f"exit code {check.returncode}"))[:300])
        elif answer.get("format") != state.FORMAT:
            self._refuse(f"version {answer['version']} cannot take over from {__version__}: restart the node instead")
        else:
            self._say("executing", self._request, to=str(answer["version"]))
            self._take_over(state.Code(sys.executable, __version__))

    def _take_over(self, former: state.Code) -> None:
        try:
            left = self._hand_over(self._request, former, "")
        except (PqvpnError, OSError) as error:
            self._refuse(str(error))
            return
        self._execute(self._python, left)

    def _refuse(self, why: str) -> None:
        self._say("refused", self._request, detail=why, code=Reason.UPGRADE_REFUSED.code)
        self._publish(Problem(Reason.UPGRADE_REFUSED, "supervisor", why))

    # -- exec ----------------------------------------------------------------------------------------------------------

    def _execute(self, python: str, left: state.State) -> None:
        from pqvpn.node.resume import TRAMPOLINE  # which imports us

        memory = state.write(left)
        if left.refused:
            command = [python, "-I", "-m", "pqvpn.node.resume", str(memory), left.refused]
        else:
            command = [python, "-I", "-c", TRAMPOLINE, str(memory), left.former.python, ""]
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            os.execv(python, command)  # noqa: S606 - no shell, see the request
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.close(memory)
            self._refuse(f"{python}: {error.strerror}")

    # -- trial ---------------------------------------------------------------------------------------------------------

    def resume(self, resumed: state.State, names: list[str], acts: renewal.Acts) -> None:
        """This is the version that was executed: replace `names`, the processes of the other one's code."""
        self._resumed = resumed
        self._request, self.began = resumed.request, resumed.began
        self._renewal = renewal.Renewal(names, acts, now())
        self.due = self._renewal.due
        self.told("adopted the processes")

    def told(self, step: str) -> None:
        """Tell the operator how far it is."""
        back = self._resumed is not None and self._resumed.refused
        self._say("rolling_back" if back else "replacing", self._request, detail=step)

    def look(self, time: float) -> None:
        """Go on with whatever is under way."""
        if self._check is not None and time >= self._check_until:
            self._check.kill()
            self.due = None
        if self._renewal is None or self._resumed is None:
            return
        self._renewal.look(time)
        self.due = self._renewal.due
        if self._renewal.failed and not self._resumed.refused:
            self.roll_back(self._renewal.failed)
        elif self._renewal.failed or self._renewal.done:
            self._end(self._resumed, time)

    def roll_back(self, why: str) -> None:
        """Have the former version go on."""
        if self._resumed is None:
            return
        self._renewal = None
        former = self._resumed.former
        self._say("rolling_back", self._request, detail=why)
        self._execute(former.python, self._hand_over(self._request, former, why))

    def _end(self, resumed: state.State, time: float) -> None:
        self._renewal, self._resumed = None, None
        seconds = round(time - resumed.began, 3)
        if resumed.refused:
            code = Reason.UPGRADE_ROLLED_BACK.code
            self._say("rolled_back", resumed.request, detail=resumed.refused, code=code, seconds=seconds)
            self._publish(Problem(Reason.UPGRADE_ROLLED_BACK, "supervisor", resumed.refused))
        else:
            self._say("done", resumed.request, before=resumed.former.version, seconds=seconds)
            self._publish(NodeUpgraded(resumed.former.version, __version__, seconds))

    def _say(self, stage: str, request: str, **more: Any) -> None:
        content = {"id": request, "stage": stage, "version": __version__, **more}
        place = paths.upgrade_result(self._folder)
        fresh = place.with_suffix(".new")
        with contextlib.suppress(OSError):  # the upgrade matters more than the telling
            fresh.write_text(json.dumps(content), encoding="utf-8")
            fresh.replace(place)


def _answer(out: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(out)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
