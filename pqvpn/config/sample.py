"""The commented configuration that `pqvpn init` writes.

Owns its text. Every setting stands there, those that have a default commented out with it. A test loads it.
"""

_TEMPLATE = """\
# PQVPN configuration of {name}. Check it with: pqvpn check
# Durations are written with their unit: "250ms", "90s", "5m". An unknown setting is an error.

[node]
name = "{name}"
listen = {listen}                     # UDP port, on all addresses
interface = "{interface}"
addresses = [{addresses}]      # of this machine inside the VPN
# mtu = "auto"                     # 1432 on IPv4 paths, 1412 when an endpoint is IPv6; or 1280 to 2040
# lanes = "auto"                   # processes that move packets; or 1 to 16
# private_key = "identity.key"     # relative paths start at this file's folder
# network_key_file = "network.key" # secret of the whole mesh: openssl rand -base64 32
# runtime_dir = "/run/pqvpn/{name}"

# One section a peer. `pqvpn peer add` writes them:
#
# [peer.beta]
# card = "peers/beta.pqcard"       # or the card's line itself
# id = "pqvpn1..."                 # when given, the card must be the one of this ID
# endpoint = "beta.example.net:51820"
# allowed_ips = ["10.7.0.2/32"]    # inner addresses that are behind this peer
# psk_file = "beta.psk"            # shared by the two: openssl rand -base64 32
# keepalive = "25s"                # when this node is behind NAT and must stay reachable
# trace = false                    # follow this peer's trace identifiers
# allow_degraded = ["auth-plaintext"]
# degraded_until = 2027-01-31

[log]
# level = "info"                   # debug, info, warning, error
# format = "json"                  # json, text

[security]
# on_crypto_failure = "closed"     # no key, no packet

[timers]
# rekey_after = "120s"
# reject_after = "180s"

[offload]                          # "off" takes the slower way around a kernel feature that misbehaves
# tun_tso = "auto"
# tun_uso = "auto"
# udp_gso = "auto"
# udp_gro = "auto"
# steering = "auto"
"""


def render(*, name: str, listen: int, interface: str, addresses: tuple[str, ...]) -> str:
    """The file's text. The values are written as given: the caller validates the result by loading it."""
    quoted = ", ".join(f'"{address}"' for address in addresses)
    return _TEMPLATE.format(name=name, listen=listen, interface=interface, addresses=quoted)
