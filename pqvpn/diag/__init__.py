"""Diagnosis: why a peer is not connected, since when, and what to do, from the store of a node."""
