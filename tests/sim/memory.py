#!/usr/bin/env python3
"""No seed of the default scenario takes more memory than a run may take.

usage: memory.py SEEDS LIMIT_MIB MNEME
"""
import json
import subprocess
import sys


def main():
    seeds, limit, binary = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    run = subprocess.run([binary, "sim", "--seeds", seeds, "--json", "--out", "/tmp/mneme-test-cases"],
                         stdout=subprocess.PIPE, timeout=1200)
    peak = json.loads(run.stdout)["peak_rss_mib"]
    print(f"the seed of {seeds} that takes most memory takes {peak:.1f} MiB; {limit:.0f} MiB are allowed")
    # A process without a megabyte is a figure that was not measured.
    return 0 if run.returncode == 0 and 1 < peak < limit else 1


sys.exit(main())
