"""PQVPN: a post-quantum peer-to-peer VPN for Linux that explains itself."""

__version__ = "0.1.0"
