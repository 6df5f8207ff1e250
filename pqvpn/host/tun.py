"""The TUN interface: opening its queues and finding out which offloads the kernel has.

Owns the descriptors' creation; addresses, MTU, routes and link state are set elsewhere, frames are read elsewhere.
An interface that exists already is never attached to. It disappears when the last descriptor is closed.
"""

import errno
import fcntl
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pqvpn.errors import TunError
from pqvpn.reasons import Reason

DEVICE: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_TUNGETIFF: Final = 0x800454D2
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_TUNSETVNETLE: Final = 0x400454DC
_IFF_TUN: Final = 0x0001
_IFF_PERSIST: Final = 0x0800
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000
_CSUM: Final = 0x01
_TSO: Final = 0x02 | 0x04  # IPv4 and IPv6; never TSO_ECN: a super-packet with CWR is segmented by the kernel
_USO: Final = 0x20 | 0x40
VNET_SIZE: Final = 10


@dataclass(frozen=True, slots=True)
class Tun:
    """An open interface: one non-blocking descriptor a queue."""

    name: str
    queues: tuple[int, ...]
    vnet: bool  # frames carry a virtio header of 10 bytes, little-endian
    tso: bool
    uso: bool

    def close(self) -> None:
        """Close every queue; the interface goes with the last one."""
        for fd in self.queues:
            os.close(fd)


def open_tun(name: str, queues: int = 1, *, vnet: bool = True, tso: bool = True, uso: bool = True) -> Tun:
    """Create the interface `name` with `queues` queues; the keywords switch an offload off.

    Raises `TunError`: NO_TUN, NO_PERMISSION, INTERFACE_EXISTS or KERNEL_REFUSED.
    """
    if not 1 <= len(name.encode()) <= 15 or "%" in name or "/" in name:
        raise TunError(Reason.KERNEL_REFUSED, "not a name for an interface (1 to 15 bytes)", place=name)
    opened: list[int] = []
    try:
        for queue in range(queues):
            opened.append(_open_queue(name, queues > 1, vnet, first=queue == 0))
        has_tso, has_uso = _offload(opened, tso, uso) if vnet else (False, False)
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    return Tun(name, tuple(opened), vnet, has_tso, has_uso)


def name_of(queue: int) -> str:
    """The name of the interface behind a queue. Raises OSError when it is none, or its interface was deleted."""
    answer = fcntl.ioctl(queue, _TUNGETIFF, bytes(40))
    return answer[:16].rstrip(b"\0").decode("ascii", "replace")


def stays(name: str) -> bool:
    """Whether an interface exists that does not end with those who hold it: none of TUN, or one that is made to last."""
    try:
        flags = int(Path("/sys/class/net", name, "tun_flags").read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return os.path.exists(f"/sys/class/net/{name}")
    return bool(flags & _IFF_PERSIST)


def _open_queue(name: str, multiple: bool, vnet: bool, *, first: bool) -> int:
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise TunError(Reason.NO_TUN, os.strerror(e.errno or 0), place=DEVICE) from e
    flags = _IFF_TUN | _IFF_NO_PI
    flags |= _IFF_MULTI_QUEUE if multiple else 0
    flags |= _IFF_VNET_HDR if vnet else 0
    flags |= _IFF_TUN_EXCL if first else 0
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        if vnet:
            fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", VNET_SIZE))
            if sys.byteorder == "big":
                fcntl.ioctl(fd, _TUNSETVNETLE, struct.pack("=i", 1))
    except OSError as e:
        os.close(fd)
        raise TunError(_reason(e, name), os.strerror(e.errno or 0), place=name) from e
    return fd


def _reason(e: OSError, name: str) -> Reason:
    if e.errno == errno.EPERM:
        return Reason.NO_PERMISSION
    if e.errno in (errno.EBUSY, errno.EEXIST) or os.path.exists(f"/sys/class/net/{name}"):
        return Reason.INTERFACE_EXISTS
    return Reason.KERNEL_REFUSED


def _offload(fds: list[int], tso: bool, uso: bool) -> tuple[bool, bool]:
    """Switch on the most that is wanted and that the kernel has; it is a property of the whole interface."""
    wanted = [(True, True)] if tso and uso else []
    wanted += [(True, False)] if tso else []
    wanted += [(False, True)] if uso and not tso else []
    for has_tso, has_uso in wanted:
        if _try_offload(fds, _CSUM | (_TSO if has_tso else 0) | (_USO if has_uso else 0)):
            return has_tso, has_uso
    if not _try_offload(fds, _CSUM):
        _try_offload(fds, 0)
    return False, False


def _try_offload(fds: list[int], bits: int) -> bool:
    try:
        for fd in fds:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, bits)
    except OSError:
        return False
    return True
