"""uvicorn without its command line: three names of it.

Owns the short way in. The package's own `__init__` loads click and what starts many workers, 2 MiB of what the observer never
uses; a bare package of the same path in its place loads only what these names need. As `pqvpn/host/_pyroute2.py` does.
"""

import importlib.util
import sys
from types import ModuleType

if "uvicorn" not in sys.modules and (_spec := importlib.util.find_spec("uvicorn")) is not None:
    _bare = ModuleType("uvicorn")
    _bare.__path__ = list(_spec.submodule_search_locations or ())
    _bare.__spec__ = _spec
    sys.modules["uvicorn"] = _bare

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server

vars(sys.modules["uvicorn"])["Config"] = Config  # uvicorn's own modules, loaded later, take it from the package

__all__ = ["Config", "H11Protocol", "Server"]
