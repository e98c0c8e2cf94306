#!/usr/bin/env python3
"""Branches at the command line: what fails in one is found, replays from its recipe, and --verify would see it differ.

usage: branching.py MNEME UNSTEADY

UNSTEADY is mneme with tests/sim/unsteady.cc in it.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

VIOLATED, DIVERGED = 1, 3
EVENT = 1000  # as in unsteady.cc
# Small runs with so little patience that some fail and some do not.
SETTINGS = [word for setting in ("duration=5000", "operations=200", "heal_timeout=1000", "rots=5")
            for word in ("--set", setting)]
SEEDS = "1..40"
ENERGY = 6


def require(condition, what, run):
    if not condition:
        sys.exit(f"{what}\nexit code {run.returncode}\n{run.stdout}\n{run.stderr}")


def run(*arguments, unsteady=""):
    environment = dict(os.environ, UNSTEADY=unsteady)
    return subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=600)


def found(mneme, cases, *more):
    done = run(mneme, "sim", "--seeds", SEEDS, "--keep-going", "--json", "--out", cases, *SETTINGS, *more)
    require(done.returncode == VIOLATED, "some seeds fail", done)
    return json.loads(done.stdout), done


def failing_branches_replay(mneme, cases):
    plain, _ = found(mneme, cases)
    result, done = found(mneme, cases, "--branch", str(ENERGY), "--verify")
    own = [failure for failure in result["failures"] if not failure["branches"]]
    branched = [failure for failure in result["failures"] if failure["branches"]]
    require([failure["seed"] for failure in own] == [failure["seed"] for failure in plain["failures"]],
            "the seeds' own runs are what they are without branches", done)
    require(result["events"] == plain["events"] and result["operations"] == plain["operations"],
            "their figures, too", done)
    require(result["branches"] > 10 and branched, "there are branches, and some fail", done)
    require(result["failed_branches"] == len(branched), "each is listed", done)
    failed = {failure["seed"] for failure in result["failures"]}
    require(result["failed"] == len(failed) and result["passed"] == result["seeds"] - len(failed),
            "a seed fails for itself or for a branch, once", done)
    require(0 < result["branches_cpu_s"] < result["cpu_s"], "their CPU time is part of the whole", done)
    require(result["trace_hash"] == plain["trace_hash"], "their hash, too", done)
    require(found(mneme, cases, "--branch", str(ENERGY), "-j3")[0]["branches_trace_hash"] ==
            result["branches_trace_hash"],
            "which runs branch, and where, is the same with any number of processes", done)

    for failure in branched:
        by_case = run(mneme, "replay", failure["case"])
        require(by_case.returncode == VIOLATED and failure["property"] in by_case.stdout,
                "a failing branch replays from its case", by_case)
        by_seed = run(mneme, "replay", str(failure["seed"]), *SETTINGS,
                      *(word for branch in failure["branches"].split() for word in ("--branch", branch)))
        require(by_seed.stdout == by_case.stdout, "and from its seed and branches", by_seed)

    text = run(mneme, "sim", "--seed", str(branched[0]["seed"]), "--keep-going", "--branch", str(ENERGY), "--out",
               cases, *SETTINGS)
    require(f"FAIL seed {branched[0]['seed']}, branch {branched[0]['branches']}  " in text.stdout,
            "people are told which branch", text)
    require(re.search(r"^  \d+ branches besides, \d+ of them failed", text.stdout, re.MULTILINE),
            "and how many there were", text)


def wrong_branches_are_told(mneme, cases):
    for wrong in (["7"], ["7.0"], ["9.1", "--branch", "8.1"]):
        done = run(mneme, "replay", "1", "--branch", *wrong)
        require(done.returncode == 2 and "branch" in done.stderr, "a wrong branch is a mistake of usage", done)


def unsteady_branches_are_seen(mneme, unsteady, cases):
    done = run(unsteady, "sim", "--seeds", "1..20", "--keep-going", "--verify", "--branch", str(ENERGY), "--out", cases,
               *SETTINGS, unsteady="branches")
    require(done.returncode == DIVERGED, "the exit code says that runs differ", done)
    seen = re.findall(r"DIVERGED seed (\d+), branch (\S+): two runs of it differ\n"
                      r"  the first event that differs is number (\d+); see what leads to it with\n"
                      r"  mneme replay (\S+) --break", done.stdout)
    require(seen and len(seen) == done.stdout.count("DIVERGED"), "the branch is named, and the event", done)
    for seed, branch, event, path in seen:
        require(event == str(EVENT), f"that event is {EVENT}", done)
        with open(path, encoding="utf-8") as case:
            require(f'branches = ["{branch}", ]' in case.read(), "the case is of the branch", done)
        shutil.rmtree(os.path.dirname(path))


def processes_of(session):
    """Those that run, by session; column 6 of /proc/PID/stat, after a name in brackets."""
    found_processes = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found_processes.append(int(pid))
    return found_processes


def nothing_is_left_behind(mneme, cases):
    for sent in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen([mneme, "sim", "--seeds", "1..100000", "--branch", str(ENERGY), "--out", cases],
                                   start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(processes_of(process.pid)) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        if len(processes_of(process.pid)) < 4:
            sys.exit("no branch was seen to run")
        process.send_signal(sent)
        process.wait(60)
        while processes_of(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if processes_of(process.pid):
            sys.exit(f"after signal {sent} there are still processes {processes_of(process.pid)}")


def main():
    mneme, unsteady = sys.argv[1:]
    cases = tempfile.mkdtemp(prefix="mneme-branching-")
    try:
        failing_branches_replay(mneme, cases)
        wrong_branches_are_told(mneme, cases)
        unsteady_branches_are_seen(mneme, unsteady, cases)
        nothing_is_left_behind(mneme, cases)
    finally:
        shutil.rmtree(cases)
    return 0


sys.exit(main())
