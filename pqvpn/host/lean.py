"""asyncio without TLS, for processes that never speak it.

Owns one import. asyncio loads `ssl`, and with it OpenSSL's libraries, for transports that control and the supervisor do
not use; it goes without where `ssl` cannot be imported. That saves each process 1.3 MiB and its start some milliseconds.
Whoever needs `ssl` later in the same process can import it. Import this module before anything that imports asyncio.
"""

import sys

if "asyncio" not in sys.modules and "ssl" not in sys.modules:
    sys.modules["ssl"] = None  # type: ignore[assignment] # documented: such an import raises ModuleNotFoundError
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]
