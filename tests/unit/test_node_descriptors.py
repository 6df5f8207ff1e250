"""What a node holds open for its processes: the ways between lanes."""

import pathlib
import socket
from contextlib import suppress

from pqvpn.node.descriptors import crossovers


def most(wanted: int) -> int:
    """What a process without the host's CAP_NET_ADMIN gets at most."""
    return min(wanted, int(pathlib.Path("/proc/sys/net/core/wmem_max").read_text()))


def test_every_two_lanes_are_joined_with_room_for_a_burst_of_bursts() -> None:
    ends = crossovers(3)
    try:
        assert [sorted(of) for of in ends] == [[1, 2], [0, 2], [0, 1]]
        for a, b in ((0, 1), (2, 0)):
            one, other = ends[a][b], ends[b][a]
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 2 * most(1 << 20)  # the kernel doubles it
            taken = 0
            with suppress(BlockingIOError):
                while taken < 100:
                    one.send(bytes(64_000))
                    taken += 1
            assert taken >= most(1 << 20) // 64_000
            for _ in range(taken):
                assert other.recv(65536) == bytes(64_000)
    finally:
        for of in ends:
            for end in of.values():
                end.close()
