"""Measurements side by side with other VPNs, in a lab of namespaces: `make bench`.

`contenders.py` starts each VPN, `measures.py` takes one figure of one of them, `figures.py` holds the figures and their bars,
`rounds.py` interleaves, `report.py` and `plot.py` show. Everything runs on one machine over a veth link, which passes joined
segments uncut: that flatters every product with offload alike.
"""
