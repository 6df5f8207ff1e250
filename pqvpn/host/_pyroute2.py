"""pyroute2 without what its package imports besides: two names of it.

Owns the short way in. The package's own `__init__` loads every protocol that it speaks, which costs each start 0.1 s and the
supervisor 4 MiB; a bare package of the same path in its place loads only what these names need. See docs/decisions/0007.
"""

import importlib.util
import sys
from types import ModuleType

from pqvpn.host import lean as lean  # pyroute2 imports asyncio, which must not meet what stands in for `ssl` below

if "pyroute2" not in sys.modules and (_spec := importlib.util.find_spec("pyroute2")) is not None:
    _bare = ModuleType("pyroute2")
    _bare.__path__ = list(_spec.submodule_search_locations or ())
    _bare.__spec__ = _spec
    sys.modules["pyroute2"] = _bare

# its probes of TLS servers import `ssl`, and OpenSSL with it; nobody here asks for one
_stands_in = "ssl" not in sys.modules
if _stands_in:
    sys.modules["ssl"] = ModuleType("ssl")
try:
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
finally:
    if _stands_in:
        del sys.modules["ssl"]

__all__ = ["IPRoute", "NetlinkError"]
