#!/usr/bin/env python3
"""A scenario file runs as it says, and a mistake in one is answered with its line, its key and what is allowed.

usage: scenario_files.py MNEME
"""
import json
import os
import subprocess
import sys
import tempfile

MISTAKES = [
    ('[faults]\nkilss = 3\n', 2, "unknown option 'kilss'"),
    ('what = "x"\n\n[fault]\nkills = 3\n', 3, "unknown key 'fault'; known are: what, extends, [cluster], [workload]"),
    ('[cluster]\nkills = 3\n', 2, "kills belongs under [faults]"),
    ('[cluster]\nheartbeat = "100 KiB"\n', 2, "whole number from 5 to 10000, in ms or with a unit (us, s, min, h)"),
    ('[cluster]\nheartbeat = 1.5\n', 2, "a range of two such: [from, to]"),
    ('[cluster]\nnodes = [3, 5, 7]\n', 2, "a range of two such: [from, to]"),
    ('[cluster]\nnodes = [5, 3]\n', 2, "the range is empty"),
    ('[cluster]\nnodes = 30\n', 2, "it is a whole number from 1 to 9"),
    ('[faults]\nregime = "mild"\n', 2, "write recoverable or unrestricted"),
    ('extends = "kvv"\n', 1, "there is no built-in scenario 'kvv'"),
    ('extends = 3\n', 1, "extends is the name of a built-in scenario"),
    ('cluster = 3\n', 1, "write [cluster]"),
    ('[cluster\nnodes = 3\n', 1, ""),
    ('[cluster]\nnodes = 1\n\n[faults]\nwipes = 1\n', 2, "leaves no copy that wipes = 1 may damage"),
    ('[cluster]\nheartbeat = "1 s"\nelection_timeout = "1 s"\n', 3, "at most half of election_timeout"),
]


def run(mneme, *args):
    done = subprocess.run([mneme, "sim", *args, "--out", "/tmp/mneme-test-cases"], capture_output=True, text=True,
                          timeout=120)
    return done.returncode, done.stdout, done.stderr


def main():
    mneme = sys.argv[1]
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "mine.toml")

        def write(text):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

        for text, line, sentence in MISTAKES:
            write(text)
            code, out, err = run(mneme, path, "--seed", "1")
            place = f"{path}:{line}: "
            # Of two options that contradict each other either line will do.
            if code != 2 or out or sentence not in err or (place not in err and "at most" not in sentence):
                wrong.append(f"{text!r}: exit {code}, stdout {out!r}, stderr {err!r}")

        write('what = "mine"\nextends = "calm"\n[cluster]\nnodes = 5\n[workload]\nclients = [3, 4]\nkeys = 2\n')
        code, out, err = run(mneme, path, "--seeds", "1..3", "--json")
        result = json.loads(out) if out else {}
        if code != 0 or result.get("passed") != 3 or result.get("scenario") != path or result.get("faults") != 0:
            wrong.append(f"a good file: exit {code}, {out} {err}")
        code, _, err = run(mneme, os.path.join(directory, "none.toml"))
        if code != 2 or "there is no scenario and no file" not in err:
            wrong.append(f"a missing file: exit {code}, {err}")
    print("\n".join(wrong) or f"{len(MISTAKES)} mistakes are answered as they should be")
    return 1 if wrong else 0


sys.exit(main())
