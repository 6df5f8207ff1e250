"""A kernel that does not answer: real sockets of rtnetlink whose filter lets nothing in."""

import pytest

from pqvpn.errors import NetworkError
from pqvpn.host.netlink import Interface
from pqvpn.host.rtnetlink import Netlink
from pqvpn.reasons import Reason
from tests.deaf import deafen


def test_an_answer_that_never_comes_is_waited_for_so_long() -> None:
    with Netlink(0.2) as netlink:
        assert netlink.link_lookup(ifname="lo")
        deafen(netlink)
        with pytest.raises(TimeoutError):
            netlink.link_lookup(ifname="lo")
        with pytest.raises(TimeoutError):
            list(netlink.get_addr())


def test_closing_it_twice_or_after_silence_is_no_error() -> None:
    netlink = Netlink(0.2)
    deafen(netlink)
    with pytest.raises(TimeoutError):
        netlink.link("get", index=1)
    netlink.close()
    netlink.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        netlink.link("get", index=1)


def test_an_interface_asks_again_on_a_socket_of_which_nothing_is_left() -> None:
    loopback = Interface("lo", "/nobody/pqvpn.toml", 0.2)
    assert loopback.look().exists
    for ask in (loopback.look, loopback.guards):
        deafen(loopback._netlink)
        with pytest.raises(NetworkError) as silent:
            ask()
        assert silent.value.reason is Reason.KERNEL_SILENT
        assert loopback.look().exists
    loopback._netlink.close()  # as good as one that the kernel refuses for ever
    with pytest.raises(NetworkError) as refused:
        loopback.look()
    assert refused.value.reason is Reason.KERNEL_REFUSED
    assert loopback.look().exists
    loopback.be_patient(0.1)
    assert loopback._netlink.patience == 0.1
    loopback.close()
