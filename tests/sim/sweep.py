#!/usr/bin/env python3
"""Runs seeds of all scenarios, every seed twice, and asks that the states that matter were all reached.

usage: sweep.py MNEME [--total 1000] [--first 1] [--scenarios kv,storm] [--probes FILE] [--out DIR]

A quarter of the seeds goes to the default scenario, the rest evenly to the others. Exit 1 when a seed failed, was
inconclusive or ran differently twice, or when a probe of the file (one name a line) was never reached.
"""
import argparse
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("mneme")
    parser.add_argument("--total", type=int, default=1000, help="seeds, all scenarios together")
    parser.add_argument("--first", type=int, default=1, help="the first seed of each scenario")
    parser.add_argument("--scenarios", default="", help="names, comma-separated; default: all built-in ones")
    parser.add_argument("--probes", default=os.path.join(HERE, "mandatory_probes.txt"))
    parser.add_argument("--out", default="cases", help="directory for case files")
    return parser.parse_args()


def names_of_scenarios(mneme):
    listed = subprocess.run([mneme, "scenarios"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines()]


def probes_of(path):
    with open(path, encoding="utf-8") as file:
        lines = (line.split("#")[0].strip() for line in file)
        return [line for line in lines if line]


def main():
    flags = arguments()
    names = flags.scenarios.split(",") if flags.scenarios else names_of_scenarios(flags.mneme)
    default = max(1, flags.total // 4) if len(names) > 1 else flags.total
    others = max(1, (flags.total - default) // max(1, len(names) - 1))
    reached, passed, wrong = {}, 0, False
    begin = time.monotonic()
    print(f"{'scenario':<16} {'seeds':>6} {'passed':>6} {'operations':>11} {'unknown':>8} {'faults':>8} "
          f"{'CPU s':>6}  trace hash", flush=True)
    for i, name in enumerate(names):
        count = default if i == 0 else others
        seeds = f"{flags.first}..{flags.first + count - 1}"
        # What it says on stderr (where runs part, progress) is for people.
        run = subprocess.run([flags.mneme, "sim", name, "--seeds", seeds, "--verify", "--keep-going", "--json", "--out",
                              os.path.join(flags.out, name)], stdout=subprocess.PIPE, text=True)
        if not run.stdout:  # it has said on stderr why
            return run.returncode or 70
        result = json.loads(run.stdout)
        share = 100 * result["unknown"] / max(1, result["operations"])
        print(f"{name:<16} {count:>6} {result['passed']:>6} {result['operations']:>11,} {share:>7.1f}% "
              f"{result['faults']:>8,} {result['cpu_s']:>6.1f}  {result['trace_hash']}", flush=True)
        for failure in result["failures"]:
            print(f"  FAIL seed {failure['seed']}  {failure['property']}: {failure['summary']}\n"
                  f"       mneme replay {failure['case']}")
        for seed in result["inconclusive_seeds"]:
            print(f"  INCONCLUSIVE seed {seed}:  mneme replay {seed} --scenario {name}")
        wrong |= run.returncode != 0
        passed += result["passed"]
        for probe, times in result["sometimes"].items():
            reached[probe] = reached.get(probe, 0) + times
    print(f"{passed} seeds passed in {time.monotonic() - begin:.0f} s")
    mandatory = probes_of(flags.probes)
    unknown = [probe for probe in mandatory if probe not in reached]
    missing = [probe for probe in mandatory if reached.get(probe) == 0]
    for probe in unknown:
        print(f"{flags.probes} names a probe that does not exist: {probe}")
    if missing:
        print(f"never reached, of the {len(mandatory)} that must be: {', '.join(missing)}")
    else:
        print(f"all {len(mandatory)} mandatory probes were reached")
    return 1 if wrong or unknown or missing else 0


sys.exit(main())
