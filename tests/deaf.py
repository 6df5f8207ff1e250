"""A netlink socket that takes questions and hears no answer: the kernel drops each at the socket's filter."""

import ctypes
import socket
import struct
from typing import Any

_SO_ATTACH_FILTER = 26
_RETURN_NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0: keep no byte


def deafen(netlink: Any) -> None:
    """Have the socket of a `pqvpn.host.rtnetlink.Netlink` hear nothing any more."""
    code = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
    program = struct.pack("HP", 1, ctypes.addressof(code))
    netlink.asyncore.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
