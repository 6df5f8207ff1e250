"""The numbers by which the kernel tells a node's own routes and datagrams from others'.

Owns their derivation from the real path of the node's configuration: the same node finds its own again after a crash without
a state file, and two nodes on one host do not take each other's.
"""

import zlib

_GUARD_METRIC = 0xFF000000
_MARK = 0x51560000


def guard_metric(identity: str) -> int:
    """The metric of a node's guard routes; `identity` is the real path of its configuration."""
    return _GUARD_METRIC | (zlib.crc32(identity.encode()) & 0xFFFF)


def routing_mark(identity: str) -> int:
    """SO_MARK of a node's own UDP sockets, and the number of its routing table. `identity` as in `guard_metric`."""
    return _MARK | (zlib.crc32(identity.encode()) & 0xFFFF)
