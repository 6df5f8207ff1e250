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
# state_dir = "/var/lib/pqvpn/{name}"

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
# format = "json"                  # json, text: what goes to stderr
# file = true                      # JSON lines in the state folder, rotated and compressed
# rotate_size = "16MiB"
# rotate_age = "1d"
# keep_size = "128MiB"             # all files together

[redact]
# addresses = "pseudonym"          # pseudonym, mask, keep: in everything that is recorded or sent

[telemetry]
# enabled = true                   # records for `pqvpn diag`, on this disk only unless there is an endpoint
# endpoint = "https://otel.example.net:4318"
# protocol = "http/protobuf"       # http/protobuf, grpc
# headers_file = "otlp.headers"    # lines "name: value", mode 0600: tokens
# ca_file = "collector-ca.pem"     # certificate_file, key_file: our own, where the collector asks for one
# compression = "gzip"             # gzip, none
# timeout = "10s"
# insecure = false                 # true: plain http to another host is acceptable
# sample = 1.0                     # share of connection attempts that are traced
# spool_size = "64MiB"             # on disk at most; the oldest records go first
# spool_age = "7d"
# flush_interval = "1s"
# metrics_interval = "15s"

[crash_reports]                    # crashes are recorded here, and sent only with a dsn_file; applied by `pqvpn reload`
# dsn_file = "crashes.dsn"         # mode 0600: the project's DSN on Sentry, GlitchTip or Bugsink
# environment = "production"
# host_name = false                # true: reports tell this host's name
# ca_file = "crash-server-ca.pem"
# timeout = "10s"
# insecure = false                 # true: plain http to another host is acceptable
# keep_size = "8MiB"               # on this disk at most; the oldest reports go first
# keep_age = "30d"

[health]                           # applied by `pqvpn reload`
# listen = "127.0.0.1:9464"        # besides the unix socket; elsewhere than on loopback with a token
# token_file = "health.token"      # mode 0600: openssl rand -base64 32
# mend = true                      # put back what somebody took: the interface, addresses, routes, sockets of the port
# interval = "2s"                  # between two checks
# fail_scale = 1.0                 # 2.0: everything must be wrong for twice as long until it is told
# recover_scale = 1.0              # 2.0: and well for twice as long
# control_silent = "3s"            # control reports every second
# progress_timeout = "5s"          # a process, or the supervisor, that shows no progress for so long
# probe_timeout = "5s"             # a lane without packets gets a probe through the interface, and must take it
# loop_late = "500ms"              # lag of an event loop that is a warning
# loop_stuck = "5s"                # and a failure
# ends_window = "60s"              # ends of a process are counted for so long
# ends_warn = 3
# ends_fail = 8
# memory_warns = "384MiB"          # of one process
# memory_fails = "1GiB"
# descriptors_warn = 0.8           # share of the limit of one process
# descriptors_fail = 0.95
# disk_free = "64MiB"              # less is told
# disk_hangs = "10s"               # without an answer
# crypto_interval = "60s"          # new keys, a round trip and known answers of every primitive
# crypto_timeout = "5s"            # what has not answered by then has failed, and control is replaced
# netlink_timeout = "1s"           # the kernel is waited for so long

[restart]                          # of the node's processes; applied by `pqvpn reload`
# lanes = "always"                 # always, on-failure, never
# control = "always"
# observer = "always"
# first_wait = "50ms"              # doubled by each early end, with full jitter
# longest_wait = "10s"
# burst = 5                        # more ends than this within the window are a loop: told loudly, tried rarely
# window = "60s"
# slow_every = "30s"
# lived = "10s"                    # a process that ran for so long is healthy
# hang_after = "1s"                # without progress; control is given twice, the observer ten times as long
# spares = true                    # one lane and one control wait, imported, to replace one that died

[breakers]                         # what fails again and again is left alone for a while; applied by `pqvpn reload`
# window = "30s"                   # outcomes are counted for so long
# minimum_calls = 5                # with fewer the rate says nothing
# failure_rate = 0.5               # opens the breaker
# consecutive = 3                  # so many failures in a row do as well
# open_for = "5s"                  # doubled by each probe that fails; a peer is left alone for 15s at most
# open_longest = "60s"
# probes = 1                       # calls let through, to see
# slow_after = "0s"                # a call that takes longer is a failure; 0s: never
# most = 1024                      # breakers of one kind

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
