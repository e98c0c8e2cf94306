"""Measures and prints figures against the targets. See script/bench."""
import argparse
import signal
import sys

import checker
import cluster
import hashmap
import sharding
import simulator
import single
from common import Problem, Report

PARTS = {"sim": simulator.measure, "checker": checker.measure, "single": single.measure,
         "cluster": cluster.measure, "sharding": sharding.measure, "hashmap": hashmap.measure}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the clean-up of what was started
    parser = argparse.ArgumentParser(prog="script/bench", description="Measures speed and memory against targets.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="sim, checker, single, cluster, sharding, hashmap; none: all")
    parser.add_argument("--quick", action="store_true", help="three short turns instead of five")
    parser.add_argument("--turns", type=int, help="how often each side is measured")
    parser.add_argument("--only", default="", help="of single, cluster and sharding, only figures whose name contains this")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    flags = parser.parse_args()
    flags.turns = flags.turns or (3 if flags.quick else 5)
    flags.scale = 0.4 if flags.quick else 1.0
    unknown = [part for part in flags.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part '{unknown[0]}'; the parts are: {', '.join(PARTS)}")
    report = Report(flags.json)
    failed = False
    for part in flags.parts or PARTS:
        report.say(part)
        try:
            PARTS[part](report, flags)
        except (Problem, OSError) as problem:
            failed = True
            report.skip(part, str(problem))
    report.finish()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
