"""`pqvpn peer add | list | remove | reconnect | degrade`: the peers of the configuration file, and commands to a running node.

Owns what these commands print. A running node takes changes of the file with `pqvpn reload`.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pqvpn.cli import client, options, output
from pqvpn.cli.identity import read_card
from pqvpn.config import paths

if TYPE_CHECKING:
    from pqvpn.config.schema import NodeConfig, Peer

app = typer.Typer(
    no_args_is_help=True,
    help="Add, list and remove peers in the configuration; reconnect or degrade one on a running node.",
    epilog=options.examples(
        "pqvpn peer add beta beta.pqcard --endpoint beta.example.net:51820 --allow 10.7.0.2/32",
        "pqvpn peer list",
        "pqvpn peer remove beta",
    ),
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What this node calls the peer.")]


@app.command(
    epilog=options.examples(
        "pqvpn peer add beta beta.pqcard --endpoint beta.example.net:51820 --allow 10.7.0.2/32",
        "pqvpn peer add phone pqvpncard1:... --allow 10.7.0.3/32 --keepalive 25s",
    )
)
def add(
    name: Name,
    card: Annotated[str, typer.Argument(metavar="CARD", help="The peer's card: a file, or the line.")],
    allow: Annotated[
        list[str], typer.Option("--allow", metavar="CIDR", help="Inner addresses behind the peer; may be given again.")
    ],
    endpoint: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where it is reached; without it, it has to call first.")
    ] = None,
    keepalive: Annotated[str | None, typer.Option(metavar="DURATION", help='For example "25s" behind NAT.')] = None,
    psk_file: Annotated[str | None, typer.Option(metavar="FILE", help="Key shared by the two, in a file.")] = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Add a peer: its card goes to peers/NAME.pqcard, its section to the end of the file. All or nothing."""
    from pqvpn.config import write
    from pqvpn.config.fields import BadValue, parse_name
    from pqvpn.errors import ConfigError

    try:
        parse_name(name)  # before it becomes a file's name
    except BadValue as error:
        raise ConfigError(error.reason, str(error), place="NAME", remedy=error.remedy) from None
    path = options.config_path(config)
    new = write.NewPeer(name, read_card(card), tuple(allow), endpoint, keepalive, psk_file)
    changed = write.add_peer(path, new)
    if json:
        output.print_json(next(_described(peer) for peer in changed.peers if peer.name == name))
        return
    print(f"Added peer {name} to {changed.path}.")
    _mention_reload(changed)


@app.command("list", epilog=options.examples("pqvpn peer list", "pqvpn peer list --json"))
def list_(config: options.Config = None, json: options.Json = False) -> None:
    """List the configured peers."""
    from pqvpn.config import load

    peers = sorted(load.load(options.config_path(config)).peers, key=lambda peer: peer.name)
    if json:
        output.print_json([_described(peer) for peer in peers])
        return
    if not peers:
        print("No peers are configured. Add one: pqvpn peer add NAME CARD --endpoint HOST:PORT --allow CIDR")
    for peer in peers:
        described = _described(peer)
        print(f"{peer.name}\n  id        {described['id']}\n  endpoint  {peer.endpoint or '- (it has to call first)'}")
        print(f"  allowed   {', '.join(described['allowed_ips'])}")


@app.command(epilog=options.examples("pqvpn peer remove beta"))
def remove(name: Name, config: options.Config = None, json: options.Json = False) -> None:
    """Remove a peer and its card file. All or nothing."""
    from pqvpn.config import write

    changed = write.remove_peer(options.config_path(config), name)
    if json:
        output.print_json({"removed": name})
        return
    print(f"Removed peer {name} from {changed.path}.")
    _mention_reload(changed)


@app.command(epilog=options.examples("pqvpn peer reconnect beta"))
def reconnect(name: Name, config: options.Config = None, json: options.Json = False) -> None:
    """Begin a new handshake with a peer now, whatever its state; the session in use goes on until the new one is proven."""
    result = _ask(config, "reconnect", peer=name)
    if json:
        output.print_json(result)
        return
    print(f"Handshake with {result['peer']} begun. See: pqvpn status")


@app.command(epilog=options.examples("pqvpn peer degrade beta", "pqvpn peer degrade beta --off"))
def degrade(
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="Back to full security.")] = False,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Send to a peer authenticated but READABLE, for an emergency in which encryption itself is the trouble.

    Both nodes must have allow_degraded and degraded_until for each other in their configuration, and on both the command must
    be given. It lasts until --off, the date, or the node's end, and is told loudly all the while.
    """
    result = _ask(config, "degrade", peer=name, armed=not off)
    if json:
        output.print_json(result)
    elif off:
        print(f"Full security with {result['peer']} again.")
    else:
        print(
            f"WARNING: what is sent to {result['peer']} can be read by anybody on the way until: pqvpn peer degrade {name} --off"
        )


def _ask(config: options.Config, op: str, **arguments: Any) -> dict[str, Any]:
    path = options.config_path(config)
    return client.request(paths.runtime_folder_of(path), op, **arguments)


def _mention_reload(config: "NodeConfig") -> None:
    if client.running_pid(paths.runtime_folder(config.path, config.node.runtime_dir)) is not None:
        print("The node runs; to apply: pqvpn reload")


def _described(peer: "Peer") -> dict[str, Any]:
    from pqvpn.identity import peer_id

    return {
        "name": peer.name,
        "id": peer_id.to_text(peer.id),
        "endpoint": str(peer.endpoint) if peer.endpoint else None,
        "allowed_ips": [str(network) for network in peer.allowed_ips],
        "keepalive_seconds": peer.keepalive,
        "psk": peer.psk is not None,
        "trace": peer.trace,
        "allow_degraded": peer.allow_degraded,
        "degraded_until": peer.degraded_until.isoformat() if peer.degraded_until else None,
    }
