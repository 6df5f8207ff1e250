"""pydantic without plugins of others: the names of it that the configuration needs.

Owns the short way in. pydantic looks for plugins in every package installed, for which it loads importlib.metadata, email and
zipfile: 2 MiB that the supervisor keeps, and foreign code in the process that holds the keys. A module that knows of no plugin
stands in for the one that looks. Where pydantic was loaded before, or looks elsewhere one day, all works the same, only larger.
"""

import sys
from types import ModuleType

if "pydantic.plugin._loader" not in sys.modules:
    _none = ModuleType("pydantic.plugin._loader")
    _none.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules["pydantic.plugin._loader"] = _none

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import ErrorDetails

__all__ = ["BaseModel", "ConfigDict", "ErrorDetails", "PlainValidator", "ValidationError"]
