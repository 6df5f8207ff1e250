"""`python -I -m pqvpn.node.selfcheck CONFIG`: whether this version could run the node; asked before anything is replaced.

Imports every process's code, reads the configuration and tests the cryptography. Prints one JSON object: the version and
what it can take over, or why not. Exit code 0 when it could run.
"""

import importlib
import json
import os
import sys
from pathlib import Path

from pqvpn import __version__
from pqvpn.errors import PqvpnError
from pqvpn.node import state
from pqvpn.telemetry.crashes.telling import detail_of

_MODULES = (
    "pqvpn.node.resume", "pqvpn.control.process", "pqvpn.control.spare", "pqvpn.dataplane.worker",
    "pqvpn.observer.process", "pqvpn.host.netlink",
)  # fmt: skip


def main() -> int:
    """Check; see the module."""
    try:
        for module in _MODULES:
            importlib.import_module(module)
        from pqvpn.config import load
        from pqvpn.crypto import selftest

        load.load(Path(sys.argv[1]))
        failed = selftest.failures()
    except PqvpnError as error:
        return _say({"refused": f"{error.reason.code}: {error}"})
    except ImportError as error:  # the commonest, and its text names modules
        return _say({"refused": f"{type(error).__name__}: {error}"})
    except Exception as error:  # noqa: BLE001 - whatever it is, this version cannot run here; its text may hold a secret
        return _say({"refused": detail_of(error)})
    if failed:
        return _say({"refused": f"crypto.self_test_failed: {', '.join(failed)}"})
    return _say({"version": __version__, "format": state.FORMAT})


def _say(answer: dict[str, object]) -> int:
    sys.stdout.write(json.dumps(answer) + "\n")
    return os.EX_SOFTWARE if "refused" in answer else os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
