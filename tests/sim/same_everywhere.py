#!/usr/bin/env python3
"""The trace hashes of 50 seeds are the same from every build: another compiler, another optimisation level.

usage: same_everywhere.py SEEDS MNEME MNEME...
"""
import json
import subprocess
import sys


def main():
    seeds, binaries = sys.argv[1], sys.argv[2:]
    seen = {}
    for binary in binaries:
        run = subprocess.run([binary, "sim", "--seeds", seeds, "--json", "--out", "/tmp/mneme-test-cases"],
                             stdout=subprocess.PIPE, timeout=1200)
        result = json.loads(run.stdout)
        print(f"{result['build']}: {result['passed']} passed, {result['failed']} failed, trace hash {result['trace_hash']}")
        if run.returncode != 0:
            print("it did not pass:", result["failures"])
            return 1
        seen[result["trace_hash"]] = result["build"]
    if len(seen) != 1:
        print("the builds differ")
        return 1
    return 0


sys.exit(main())
