"""What on this machine forbids a lab, in words for people, with the way on.

Knows the usual reasons: user namespaces switched off, /dev/net/tun missing or closed.
"""

import errno
import functools
import json
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass

from lab import agent

_SYSTEM_SETTINGS = pathlib.Path("/proc/sys")
_SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user/max_user_namespaces", "0", "15000"),
)
_MAKE_TUN = (
    "modprobe tun; mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200; chmod 0666 /dev/net/tun"
)


@dataclass(frozen=True)
class Obstacle:
    """Why no lab can be made here, and what to do about it (lines for a terminal)."""

    text: str
    remedy: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.text}; {'; or '.join(self.remedy)}"


@functools.cache
def obstacle() -> Obstacle | None:
    """Try once what a lab and a node in it need; None when everything works."""
    tried = subprocess.run(
        [sys.executable, "-P", agent.__file__, "probe"], capture_output=True, text=True, timeout=30, check=True
    )
    if not tried.stdout.strip():
        return None
    failure = json.loads(tried.stdout)
    if failure["step"] == "namespace":
        return _no_namespaces(failure["text"])
    return _no_tun(failure["step"], failure["errno"], failure["text"])


def _no_namespaces(why: str) -> Obstacle:
    if os.geteuid() == 0:
        return Obstacle(
            f"network namespaces are forbidden even to root here ({why})",
            ("in a container, start it with --privileged, or with --cap-add NET_ADMIN --cap-add SYS_ADMIN",),
        )
    remedies = []
    for name, closed, opened in _SWITCHES:
        file = _SYSTEM_SETTINGS / name
        if file.exists() and file.read_text().strip() == closed:
            remedies.append(f"allow them until the next start: sudo sysctl -w {name.replace('/', '.')}={opened}")
    remedies.append("run the same command as root")
    return Obstacle(f"user namespaces are forbidden to ordinary users here ({why})", tuple(remedies))


def _no_tun(step: str, code: int, why: str) -> Obstacle:
    sudo = "" if os.geteuid() == 0 else "sudo "
    if step == "interface":
        return Obstacle(f"the kernel refuses to make a TUN interface ({why})", ("run the same command as root",))
    if code in (errno.EACCES, errno.EPERM):
        return Obstacle(
            f"/dev/net/tun is not open to this user ({why})",
            (f"open it, as Debian does by default: {sudo}chmod 0666 /dev/net/tun", "run the same command as root"),
        )
    return Obstacle(f"/dev/net/tun is missing ({why})", (f"make it: {sudo}sh -c '{_MAKE_TUN}'",))
