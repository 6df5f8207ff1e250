"""`pqvpn init` and `pqvpn card`: this node's identity, and looking at others'.

Owns what these commands print. The work is done in `pqvpn.config.write` and `pqvpn.identity`.
"""

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pqvpn.cli import options, output

if TYPE_CHECKING:
    from pqvpn.identity.card import Card

card_app = typer.Typer(
    invoke_without_command=True,
    help="Show this node's card, or inspect another's.",
    epilog=options.examples(
        "pqvpn card                       the peer ID and the card's line",
        "pqvpn card --file > alpha.pqcard for 'pqvpn peer add' on the other machine",
        "pqvpn card --qr                  to scan from this screen",
        "pqvpn card show alpha.pqcard     whose card is this?",
    ),
)


def init(
    config: options.Config = None,
    name: Annotated[str | None, typer.Option(help="This node's name; by default the host's.")] = None,
    listen: Annotated[int, typer.Option(metavar="PORT", help="UDP port.")] = 51820,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Address inside the VPN, 10.7.0.1/24 by default; may be given again."),
    ] = None,
    interface: Annotated[str, typer.Option(help="Name of the network interface.")] = "pqvpn0",
    json: options.Json = False,
) -> None:
    """Make this node's identity and a commented configuration. Never overwrites anything."""
    from pqvpn.config import write
    from pqvpn.identity import text

    path = options.config_path(config)
    made = write.create(
        path,
        name=name if name is not None else _host_name(),
        listen=listen,
        interface=interface,
        addresses=tuple(address or ["10.7.0.1/24"]),
    )
    if json:
        output.print_json({"config": str(made.path), "name": made.node.name, **_described(made.card)})
        return
    print(f"Made {made.folder}/ with identity.key (keep it secret, back it up) and {made.path.name}.\n")
    print(f"Peer ID:  {_id(made.card)}\n")
    print(f"Card, for the other side to use with 'pqvpn peer add {made.node.name} CARD ...':\n")
    print(text.card_to_line(made.card))
    given = f" --config {path}" if config is not None else ""
    print(
        "\nNext:\n"
        f"  1. read {made.path}\n"
        f"  2. pqvpn peer add NAME CARD --endpoint HOST:PORT --allow CIDR{given}\n"
        f"  3. pqvpn check{given}\n"
        f"  4. pqvpn up{given}"
    )


def _host_name() -> str:
    """The host's name as far as it is a node's name."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname().partition(".")[0]).strip("-_")
    return name[:63] or "node"


@card_app.callback()
def card(
    context: typer.Context,
    config: options.Config = None,
    qr: Annotated[bool, typer.Option("--qr", help="Draw it as a QR code.")] = False,
    line: Annotated[bool, typer.Option("--line", help="Only the line.")] = False,
    file: Annotated[bool, typer.Option("--file", help="As the contents of a .pqcard file.")] = False,
    json: options.Json = False,
) -> None:
    """Show this node's card: what the other side needs to know it. It holds no secret."""
    if context.invoked_subcommand is not None:
        return
    from pqvpn.identity import text

    own = _own_card(options.config_path(config))
    if json:
        output.print_json(_described(own))
    elif qr:
        _draw(text.card_to_line(own))
    elif line:
        print(text.card_to_line(own))
    elif file:
        print(text.card_to_file(own), end="")
    else:
        print(f"Peer ID:  {_id(own)}\n\n{text.card_to_line(own)}")


def _own_card(path: Path) -> "Card":
    from pqvpn.config import load

    return load.load(path).card


def _draw(line: str) -> None:
    import segno

    segno.make(line, micro=False, error="l").terminal(compact=True)


@card_app.command("show", epilog=options.examples("pqvpn card show beta.pqcard", "pqvpn card show pqvpncard1:..."))
def show(
    card: Annotated[str, typer.Argument(metavar="FILE|LINE", help="A card file, or the line.")],
    json: options.Json = False,
) -> None:
    """Inspect a card: its peer ID, and whether it is well formed."""
    inspected = read_card(card)
    if json:
        output.print_json(_described(inspected))
        return
    records = "yes" if any(inspected.sig_pk_hash) else "no"
    print(f"Peer ID:            {_id(inspected)}")
    print("Suite:              X-Wing (ML-KEM-768 + X25519), post-quantum")
    print(f"Signs records:      {records}")


def read_card(given: str) -> "Card":
    """A card from a command line: a line, or the path of a file. Raises ConfigError with the place."""
    from pqvpn.config import load
    from pqvpn.errors import ConfigError

    place = "the card's line" if given.startswith("pqvpncard1:") else given
    try:
        return load.read_card(Path.cwd(), given.strip())
    except ConfigError as error:
        raise ConfigError(error.reason, error.detail, place=place, remedy=error.remedy) from None


def _id(card: "Card") -> str:
    from pqvpn.identity import peer_id

    return peer_id.to_text(card.peer_id)


def _described(card: "Card") -> dict[str, Any]:
    from pqvpn.identity import text

    return {"id": _id(card), "line": text.card_to_line(card), "signs_records": any(card.sig_pk_hash)}
