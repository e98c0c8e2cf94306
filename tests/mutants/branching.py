#!/usr/bin/env python3
"""When branches beat fresh seeds: the same seeds of each mutant judged without and with their branches.

usage: branching.py [--seeds N] [--first N] [--branch N] [--write] ID...

A seed's own run is the same with branches and without, so one batch gives both sides: what the seeds' own runs found
in the CPU time that they took, and what they found together with their branches in all of it. A seed that fails counts
once, because branches of one run often fail for one reason. --write makes tests/mutants/branching.md, which
docs/DETECTION.md includes.
"""
import argparse
import sys

import hunt
import report

OUTPUT = hunt.PATCHES / "branching.md"
BATCH = 50
HEADS = ("id", "seeds", "failed by themselves", "CPU s", "CPU s per failure", "branches", "failed with branches",
         "CPU s", "CPU s per failure", "gain")


def judged(name, command, arguments):
    """Of the seeds: how many failed by themselves, with branches; CPU time of the first and of all; branches."""
    own, together, cpu_s, branches_cpu_s, branches = set(), set(), 0.0, 0.0, 0
    for begin in range(arguments.first, arguments.first + arguments.seeds, BATCH):
        last = min(begin + BATCH, arguments.first + arguments.seeds) - 1
        result = hunt.simulate(command, begin, last, hunt.SCRATCH / "cases" / f"{name}-branches",
                               ("--branch", str(arguments.branch)))
        together |= {failure["seed"] for failure in result["failures"]}
        own |= {failure["seed"] for failure in result["failures"] if not failure["branches"]}
        cpu_s += result["cpu_s"]
        branches_cpu_s += result["branches_cpu_s"]
        branches += result["branches"]
        hunt.show(f"{name}: seed {last}, {len(own)} fail by themselves, {len(together)} with branches")
    hunt.clear()
    return len(own), len(together), cpu_s - branches_cpu_s, cpu_s, branches


def each(cpu_s, failures):
    return f"{cpu_s / failures:.1f}" if failures else f"> {cpu_s:.0f}"


def row(name, seeds, own, together, own_cpu_s, cpu_s, branches):
    gain = f"{together / own * own_cpu_s / cpu_s:.1f}" if own else ""
    return (name, seeds, own, f"{own_cpu_s:.0f}", each(own_cpu_s, own), branches, together, f"{cpu_s:.0f}",
            each(cpu_s, together), gain)


def document(rows, sums, arguments):
    own, together, own_cpu_s, cpu_s, branches = sums
    worth = (f"A CPU second of fresh seeds found {own / own_cpu_s:.2f} failing ones, a CPU second of branches "
             f"{(together - own) / (cpu_s - own_cpu_s):.2f} that had not failed by themselves.")
    return TEXT.format(branch=arguments.branch, first=arguments.first, worth=report.wrapped(worth),
                       table=report.markdown_table(HEADS, rows))


TEXT = """## Branching futures

With `mneme sim --branch N` the process of a seed forks where its run first reaches a probe that few runs reach, up to
N times in all; the branches go on with other decisions and other faults, and half of them are struck at once. A branch
costs only what comes after the fork. What that is worth in seeds from {first} on, with `--branch {branch}`:

{table}
{worth}
The gain is how much more a CPU second finds with branches than without; a seed counts once, because branches of one
run often fail for one reason. No run branches unless `--branch` says so.
"""


def main():
    parser = argparse.ArgumentParser(prog="branching.py")
    parser.add_argument("ids", nargs="+", metavar="ID")
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--branch", type=int, default=8)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    mutants = hunt.choose(arguments.ids, [])
    held = hunt.lock()
    files = hunt.tracked_files()
    hunt.TREE.mkdir(parents=True, exist_ok=True)
    rows, sums = [], [0] * 5
    for mutant in mutants:
        hunt.plant(mutant, files)
        command, complaint = hunt.built(mutant.id)
        if command is None:
            raise hunt.Broken(f"{mutant.id} does not build:\n{complaint}")
        figures = judged(mutant.id, command, arguments)
        sums = [a + b for a, b in zip(sums, figures)]
        rows.append(row(mutant.id, arguments.seeds, *figures))
        hunt.say(report.markdown_row(rows[-1]))
    hunt.restore(files)
    held.close()
    rows.append(row("all", arguments.seeds * len(mutants), *sums))
    text = document(rows, sums, arguments)
    print(text, end="")
    if arguments.write:
        OUTPUT.write_text(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (hunt.Usage, hunt.Broken) as error:
        sys.exit(f"branching: {error}")
