"""The observer: the process that makes traces, metrics, logs and health of what the others publish.

It takes no packet and no handshake; its death, its disk and its collector cost the tunnel nothing.
"""
