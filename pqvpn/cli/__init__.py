"""The command line: from arguments to one command; the only place that prints or exits.

`main` is the entry point and the global handler, `commands` all words for typer, `foreground` becomes a node without typer,
`output` is how errors look, `client` the way to a running node; commands are in `identity` (init, card), `peers`, `service`
(check, up, down, reload) and `status`. Modules of other packages are imported
inside the commands that need them: `pqvpn version` shall not wait for cryptography.
"""
