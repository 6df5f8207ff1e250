"""Configuration: one TOML file becomes one frozen `NodeConfig`, or all of its errors at once.

`load.load(path)` is the way in. Nothing here opens a socket to another host, and nothing is imported that the caller
does not use: command line start-up counts.
"""
