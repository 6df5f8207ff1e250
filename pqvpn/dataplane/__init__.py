"""The data plane: a lane is one process that moves packets between a TUN queue and a UDP socket.

In packet order: `worker`, `outbound`, `inbound`, with `engine` (AEAD and headers), `routes`, `inner`, `icmp`,
`links`.
Control speaks to a lane in `commands`, a lane answers in `events`, counters lie in shared memory (`counters`).
"""
