#!/usr/bin/env python3
"""--verify sees two runs of a seed that differ, and names the first event that does.

usage: verify_finds.py MNEME UNSTEADY

UNSTEADY is mneme with tests/sim/unsteady.cc in it.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

EVENT = 1000  # as in unsteady.cc
DIVERGED = 3
# A small run, but one of many more events than that.
SMALL = ["--set", "duration=2000", "--set", "operations=100", "--verify"]


def require(condition, what, run):
    if not condition:
        sys.exit(f"{what}\nexit code {run.returncode}\n{run.stdout}\n{run.stderr}")


def run(arguments, unsteady=""):
    environment = dict(os.environ, UNSTEADY=unsteady)
    return subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)


def main():
    mneme, unsteady = sys.argv[1:]
    cases = tempfile.mkdtemp(prefix="mneme-verify-")
    small = SMALL + ["--out", cases]
    try:
        for binary in (mneme, unsteady):
            same = run([binary, "sim", "--seeds", "1..4"] + small)
            require(same.returncode == 0 and "DIVERGED" not in same.stdout, "steady runs are the same", same)

        for how in ("changes", "ends"):
            differ = run([unsteady, "sim", "--seeds", "1..4", "--keep-going"] + small, how)
            require(differ.returncode == DIVERGED, "the exit code says that runs differ", differ)
            for seed in range(1, 5):
                require(f"DIVERGED seed {seed}:" in differ.stdout, f"seed {seed} differs", differ)
            named = re.findall(r"the first event that differs is number (\d+)", differ.stdout)
            require(named == [str(EVENT)] * 4, f"the first event that differs is {EVENT}", differ)
            # What it says to do next works, and shows that event.
            for path, event in re.findall(r"mneme replay (\S+) --break (\d+)", differ.stdout):
                replay = run([mneme, "replay", path, "--break", event])
                require(replay.returncode == 0 and f"--- event {EVENT}," in replay.stdout, "it can be looked at", replay)
                shutil.rmtree(os.path.dirname(path))

        stopped = run([unsteady, "sim", "--seeds", "1..400"] + small, "once")
        require(stopped.returncode == DIVERGED, "the exit code says that runs differ", stopped)
        require("did not differ again" in stopped.stdout, "what cannot be found again is said to be so", stopped)
        require("not run" in stopped.stdout, "it stops at the first seed that differs", stopped)

        machine = run([unsteady, "sim", "--seed", "3", "--json"] + small, "changes")
        require(machine.returncode == DIVERGED, "the exit code says that runs differ", machine)
        require(json.loads(machine.stdout)["diverged"] == [3], "stdout is one JSON object and names the seed", machine)
        require(f"number {EVENT};" in machine.stderr, "the event is named next to it", machine)
        for path in re.findall(r"mneme replay (\S+) --break", machine.stderr):
            shutil.rmtree(os.path.dirname(path))
    finally:
        shutil.rmtree(cases)
    return 0


sys.exit(main())
