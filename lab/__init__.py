"""A laboratory of network namespaces in which real nodes run: for the demo, the tests and the benchmark.

Not shipped. Works as root, and as an ordinary user by a user namespace; `obstacle()` says why not, if not.

    with Lab() as lab:                              # leaves nothing behind, however the block or the process ends
        a, b = lab.namespace("a"), lab.namespace("b")
        link = lab.link(a, b, ["10.0.0.1/24", "fd00::1/64"], ["10.0.0.2/24", "fd00::2/64"], mtu=1500)
        a.run(["ip", "addr"]).stdout                # to its end; a.popen([...]) in the background
        with a.socket(AF_INET, SOCK_STREAM) as s:   # lives in the namespace, used from here
            ...
        with a.capture(link.near, watch=[b"secret"]) as seen:
            ...                                     # seen.frames, seen.hits, seen.dropped, seen.contains(b"...")
        nat = lab.router("nat")                     # forwards; nat.masquerade("veth1"), again with other ports: rebinds
        a.add_address / delete_address / add_route / delete_route / set_mtu / up / down / bridge / sysctl / nft
        wait_for("the peer", lambda: probe(), timeout=5)   # polls until true; no sleeps
        lab.folder                                  # a folder of the lab's own, removed with it

`lab.nodes` makes real nodes in a namespace by the real command line, `lab.versions` makes other versions of the package for
them to run, `lab.traffic` sends pings and files.
"""

from lab.capture import Capture
from lab.namespaces import Lab, LabError, Link, Namespace
from lab.obstacles import Obstacle, obstacle
from lab.waiting import WaitTimeoutError, ended, wait_for

__all__ = [
    "Capture",
    "Lab",
    "LabError",
    "Link",
    "Namespace",
    "Obstacle",
    "WaitTimeoutError",
    "ended",
    "obstacle",
    "wait_for",
]
