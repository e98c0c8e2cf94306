#!/usr/bin/env python3
"""Every planted mistake still applies to the tree: a patch that does not is renewed, not dropped.

usage: apply.py
"""
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main():
    patches = sorted((ROOT / "tests" / "mutants").rglob("*.patch"))
    wrong = []
    for patch in patches:
        # As hunt.py applies them: with one line of context, so that changes nearby do not matter.
        tried = subprocess.run(["git", "apply", "--check", "-C1", str(patch)], cwd=ROOT, capture_output=True, text=True)
        if tried.returncode != 0:
            wrong.append(f"{patch.relative_to(ROOT)}: {tried.stderr.strip()}")
    print("\n".join(wrong) or f"{len(patches)} patches apply")
    return 1 if wrong or not patches else 0


sys.exit(main())
