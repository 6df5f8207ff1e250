"""A node: configuration becomes descriptors, an interface and supervised processes.

`run` is a node's whole life in the foreground, `clean` removes what a killed one left behind.
"""

from pqvpn.host import lean as lean  # before anything that imports asyncio

from pqvpn.node.entry import clean, run  # isort: skip

__all__ = ["clean", "run"]
