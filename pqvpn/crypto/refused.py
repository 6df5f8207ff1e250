"""The one exception with which pure code gives up on a stranger's bytes.

Owns `Refused`. It never leaves the pure packages: the public readers of `pqvpn.protocol` turn it into the `DropReason`
that it carries.
"""

from pqvpn.drops import DropReason


class Refused(Exception):  # noqa: N818 - it is a verdict on input, not an error of ours
    """Input was refused; `reason` is the counter to raise. State did not advance."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason.name)
        self.reason = reason
