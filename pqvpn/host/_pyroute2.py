"""pyroute2 without what its package imports besides: two names of it.

Owns the short way in. The package's own `__init__` loads every protocol that it speaks, which costs each start 0.1 s and the
supervisor 4 MiB; a bare package of the same path in its place loads only what these names need. See docs/decisions/0007.
"""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

from pqvpn.host import lean as lean  # pyroute2 imports asyncio, which must not meet what stands in for `ssl` below

if "pyroute2" not in sys.modules and (_spec := importlib.util.find_spec("pyroute2")) is not None:
    _bare = ModuleType("pyroute2")
    _bare.__path__ = list(_spec.submodule_search_locations or ())
    _bare.__spec__ = _spec
    sys.modules["pyroute2"] = _bare

_stand_ins = {"ssl": ModuleType("ssl"), "unittest": ModuleType("unittest")}
vars(_stand_ins["unittest"])["mock"] = SimpleNamespace(Mock=object)
_absent = [name for name in _stand_ins if name not in sys.modules]
# its probes of TLS servers import `ssl`, and OpenSSL with it, a socket for tests a mock: nobody here asks for either
sys.modules.update({name: _stand_ins[name] for name in _absent})
try:
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
finally:
    for _name in _absent:
        del sys.modules[_name]

__all__ = ["IPRoute", "NetlinkError"]
