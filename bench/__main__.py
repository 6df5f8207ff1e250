"""`python -m bench`: see `--help`."""

import argparse
import os
import shutil
import sys

from bench import report
from bench.contenders import ALL
from bench.figures import judge
from bench.rounds import Bench, Plan
from lab.namespaces import Lab
from lab.obstacles import obstacle


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        packet_seconds=options.packet_seconds,
        attack_rate=options.attack_rate,
        contenders=tuple(options.contenders.split(",")),
    )


def _parser() -> argparse.ArgumentParser:
    names = ",".join(kind.name for kind in ALL)
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure side by side with other VPNs.")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7, some 7 minutes)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each TCP measurement (default: 3)")
    parser.add_argument("--packet-seconds", type=float, default=2.0, help="of each small-packet one (default: 2)")
    parser.add_argument("--attack-rate", type=int, default=5000, help="datagrams a second of the flood (default: 5000)")
    parser.add_argument("--contenders", default=names, help=f"which (default: {names})")
    parser.add_argument("--bars", action="store_true", help="exit with 1, naming the figures, when a bar is not met")
    return parser


def main() -> int:
    """Exit code: 0; with --bars 1 when a bar is missed or could not be measured; 69 when nothing can be measured here."""
    options = _parser().parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian keeps openvpn
    if found := obstacle():
        print(f"No measurement is possible here: {found}", file=sys.stderr)
        return 69
    if missing := [program for program in ("iperf3", "ping", "ss") if shutil.which(program) is None]:
        print(f"No measurement is possible without {', '.join(missing)}.", file=sys.stderr)
        return 69
    plan = _plan(options)
    with Lab() as lab:
        results = Bench(plan, lab).run()
    places = report.write(plan, results)
    report.show(results)
    print("Written: " + ", ".join(str(place) for place in places))
    if not options.bars:
        return 0
    unmet = [verdict for verdict in judge(results.rounds) if not verdict.met]
    for verdict in unmet:
        print(f"bar missed: {verdict.text}", file=sys.stderr)
    return 1 if unmet else 0


if __name__ == "__main__":
    sys.exit(main())
