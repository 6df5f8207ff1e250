"""The ways into a node: run one, or remove what a killed one left behind.

Owns the claim on the runtime folder around either. What a node does stands in `lifecycle.py`.
"""

from pathlib import Path

from pqvpn.config import paths
from pqvpn.config.schema import NodeConfig
from pqvpn.host import runtime
from pqvpn.node import lastwords, observing
from pqvpn.node.lifecycle import Node


def run(path: Path, config: NodeConfig, *, debug: bool = False) -> int:
    """Run the node in the foreground until SIGTERM, SIGINT or `pqvpn down`; returns the exit code.

    Raises PqvpnError when it cannot start: another node runs, the kernel refuses.
    """
    folder = _claim(config)
    node: Node | None = None
    try:
        with folder.listen() as api:
            node = Node(path, config, api, folder.descriptor, debug=debug)
            return node.run()
    except Exception as error:
        _report(config, node, error)
        raise
    finally:
        folder.release()


def _report(config: NodeConfig, node: Node | None, error: Exception) -> None:
    """Have it known that the node ended by this exception, on the ways that no observer has taken."""
    told = node.told if node else None
    crash = told or lastwords.of(error, running=node is not None and node.started)
    if crash is None:
        return
    policy = node.redacting if node else observing.policy_of(config)
    lastwords.report(config, crash, policy)
    if told is None:
        from pqvpn.node import lasttrace

        lasttrace.record(config, crash, policy)


def clean(path: Path, config: NodeConfig) -> tuple[str, ...]:
    """Remove the guard routes and the sockets that a killed node left behind; returns the routes' prefixes.

    Raises PqvpnError: ALREADY_RUNNING when one runs after all, or what the kernel refuses.
    """
    from pqvpn.host.netlink import remove_guards  # costs 0.3 s to import

    folder = _claim(config)
    try:
        paths.health_socket(config.runtime_folder).unlink(missing_ok=True)
        return remove_guards(str(config.path))
    finally:
        folder.release()


def _claim(config: NodeConfig) -> runtime.RuntimeFolder:
    folder = config.runtime_folder
    return runtime.RuntimeFolder(folder, paths.pid_file(folder), paths.control_socket(folder))
