"""A running node's interface and port: set up, followed by reloads, put back, made anew, released.

Owns the order: what is made anew is in place before lanes that use it take the places of the present ones. When to act is
known to `mending.py` and `sockets.py`, what the kernel is asked to `host/netlink.py`.
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from pqvpn.config.schema import NodeConfig
from pqvpn.node import descriptors, translate
from pqvpn.node.descriptors import Descriptors
from pqvpn.node.sockets import owner
from pqvpn.node.staff import CONTROL, Belongings, lane_name

if TYPE_CHECKING:
    from pqvpn.host.netlink import Interface


class NodeInterface:
    """`replace` has another process take the place of one by its name; `keep` gives descriptors to the service manager."""

    def __init__(self, given: Belongings, replace: Callable[[str], None], keep: Callable[[Descriptors], None]) -> None:
        self._given = given
        self._replace = replace
        self._keep = keep
        self.kernel: Interface | None = None
        """The kernel's side of it, once it is open."""

    def open(self) -> None:
        """Give it its addresses and routes. Raises PqvpnError when the kernel refuses."""
        from pqvpn.host.netlink import Interface  # costs 0.3 s, meanwhile the children start

        config = self._given.config
        self.kernel = Interface(config.node.interface, str(config.path), config.health.netlink_timeout)
        self.kernel.configure(translate.addresses(config), self._given.mtu)
        self.kernel.set_routes(translate.prefixes(config))

    def follow(self, config: NodeConfig) -> None:
        """Set the routes of this configuration. Raises PqvpnError when the kernel refuses."""
        if self.kernel:
            self.kernel.set_routes(translate.prefixes(config))

    def be_patient(self, seconds: float) -> None:
        """Wait so long for each of the kernel's answers from now on."""
        if self.kernel:
            self.kernel.be_patient(seconds)

    def restore(self) -> None:
        """Somebody took its state, addresses or routes away: put them back. Raises PqvpnError when the kernel refuses."""
        if self.kernel:
            self.kernel.restore(self._given.mtu)

    def recreate(self) -> None:
        """Somebody deleted it: make it anew and give its queues to lanes that take the places of the present ones.

        Raises PqvpnError when the kernel refuses; then it is gone as before.
        """
        given, before = self._given, self.kernel
        fresh = descriptors.open_interface(given.config, given.lanes)
        try:
            self.open()
        except BaseException:  # whoever looks next sees that it is gone
            fresh.close()
            if self.kernel and self.kernel is not before:
                self.kernel.close()
            self.kernel = before
            raise
        with contextlib.ExitStack() as afterwards:  # what cannot be closed must not keep lanes from reading the new one
            afterwards.callback(given.held.tun.close)
            if before:
                afterwards.callback(before.close)
            given.held.tun = fresh
            for lane in range(given.lanes):
                self._replace(lane_name(lane))
            self._keep(given.held)

    def reopen_socket(self, number: int) -> None:
        """Somebody shut it down: whoever used it is replaced by one that uses the fresh one, with its sessions kept.

        Raises NetworkError when the kernel refuses.
        """
        given = self._given
        descriptors.reopen_socket(given.config, given.held, number)
        everybody = [lane_name(lane) for lane in range(given.lanes)] + [CONTROL]
        for name in [owner(number)] if given.held.udp.steering else everybody:
            self._replace(name)
        self._keep(given.held)

    def release(self) -> None:
        """Take away what guards it, and close."""
        if self.kernel:
            self.kernel.release()
            self.kernel.close()
