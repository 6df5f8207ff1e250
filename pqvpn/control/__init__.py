"""The control process: a thin asyncio shell around `pqvpn.protocol.core`.

`process` drives, `lanes` speaks to the data plane, `resolver` looks names up, `api` and `status` answer operators,
`supervision` is what the supervisor and control tell each other.
"""

from pqvpn.host import lean as lean
