"""`python -m pqvpn.cli`: the same as the command `pqvpn`."""

from pqvpn.cli.main import run

if __name__ == "__main__":
    run()
