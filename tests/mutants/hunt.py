"""The work behind script/mutants: plant a mistake, count the seeds until the simulator notices.

A mutant is a patch with a header of `key: value` lines: id; mistake; expected, the properties that may catch it;
source; scenario, if not the default one; and, where today's simulation cannot catch it, needs: what it lacks. It is applied to a copy of the tracked
files under build/mutants/tree, whose build directory is shared, so that a mutant costs the compilation of what it
touches. Seeds run in growing batches, every batch to its end, so that the lowest seed that fails does not depend on
timing.

Known mistakes that are not patches stand in pending.txt, with the reason.
"""
import argparse
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import report

ROOT = Path(__file__).resolve().parents[2]
PATCHES = ROOT / "tests" / "mutants"
SCRATCH = ROOT / "build" / "mutants"
TREE = SCRATCH / "tree"
OK, MISSED, USAGE, HARNESS, INTERRUPTED = 0, 1, 2, 70, 130

FIRST_BATCH = 4
LARGEST_BATCH = 128
RANGE_DISTANCE = 1_000_000
LEAST_CONTROL = 500
CASUAL_RANGES, RECORDED_RANGES, WAYS_RANGES = 1, 5, 3
# Ways to search that docs/DETECTION.md compares: what is given to mneme sim, and how they are named.
WAYS = (("as drawn", ()), ("fifo", ("--set", "strategy=fifo")), ("random", ("--set", "strategy=random")),
        ("pct", ("--set", "strategy=pct")), ("delay", ("--set", "strategy=delay")),
        ("no BUGGIFY", ("--set", "rarely=0")),
        ("no ambushes", ("--set", "ambushes=0", "--set", "delusions=0", "--set", "exiles=0")),
        ("8 branches", ("--branch", "8")))
KEYS = ("id", "mistake", "expected", "source", "scenario", "needs")
PENDING_KEYS = ("id", "state", "mistake", "reason", "source")


class Usage(Exception):
    pass


class Broken(Exception):
    """The harness cannot go on: not a mutant's fault."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def show(text):
    """Something that the next line may replace."""
    if sys.stderr.isatty():
        print("\r\033[K" + text, end="", file=sys.stderr, flush=True)


def clear():
    show("")


# --- Patches


def read_text(path):
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{path}: {error.strerror if isinstance(error, OSError) else 'is not text'}")


def fields_of(lines, keys):
    matches = (re.match(r"(\w+):\s*(.*)$", line) for line in lines)
    return {match[1]: match[2].strip() for match in matches if match and match[1] in keys}


class Mutant:
    def __init__(self, path):
        self.path = Path(path)
        header = re.split(r"^(?:diff |--- |Index: )", read_text(path), maxsplit=1, flags=re.MULTILINE)[0]
        fields = fields_of(header.splitlines(), KEYS)
        self.id = fields.get("id", self.path.stem)
        self.mistake = fields.get("mistake", "")
        self.source = fields.get("source", "")
        self.scenario = fields.get("scenario", "kv")
        self.needs = fields.get("needs", "")
        self.expected = [name.strip() for name in fields.get("expected", "").split("|") if name.strip()]
        self.planted = self.path.parent == PATCHES


def known_mutants():
    mutants = [Mutant(path) for path in sorted(PATCHES.glob("*.patch"))]
    for mutant in mutants:
        if mutant.id != mutant.path.stem or not mutant.mistake or not mutant.expected:
            raise Usage(f"{mutant.path}: the header must have id: (as the file is named), mistake: and expected:")
    return mutants


def pending_lines(planted):
    """The entries of pending.txt: blocks of fields, apart by blank lines; '#' begins a comment."""
    path = PATCHES / "pending.txt"
    text = re.sub(r"^#.*\n", "", read_text(path), flags=re.MULTILINE)
    entries = [fields_of(block.splitlines(), PENDING_KEYS) for block in re.split(r"\n\s*\n", text.strip())]
    taken = [mutant.id for mutant in planted] + [entry.get("id") for entry in entries]
    for entry in entries:
        complete = all(entry.get(key) for key in PENDING_KEYS) and entry["state"] in ("pending", "inexpressible")
        if not complete or taken.count(entry["id"]) > 1:
            raise Usage(f"{path}: entry {entry} needs an id of its own, a state (pending or inexpressible), a mistake, "
                        f"a reason and a source")
    return entries


def sample(mutants, size):
    """The next `size` for every commit, so that all have had their turn after a few."""
    counted = subprocess.run(["git", "-C", ROOT, "rev-list", "--count", "HEAD"], capture_output=True, text=True)
    commits = int(counted.stdout) if counted.returncode == 0 else 0
    return [mutants[(commits * size + nth) % len(mutants)] for nth in range(min(size, len(mutants)))]


def choose(ids, files, size=None):
    mutants = known_mutants()
    if size:
        return sample(mutants, size)
    by_id = {mutant.id: mutant for mutant in mutants}
    unknown = [id for id in ids if id not in by_id]
    if unknown:
        there = "\n".join(f"  {mutant.id}  {mutant.mistake}" for mutant in mutants)
        raise Usage(f"no mutant {', '.join(unknown)}; there are\n{there}")
    chosen = [by_id[id] for id in dict.fromkeys(ids)] + [Mutant(file) for file in files]
    if not chosen:
        chosen = mutants
    ids = [mutant.id for mutant in chosen]
    for mutant in chosen:
        if not re.fullmatch(r"[\w.-]+", mutant.id) or mutant.id == "control" or ids.count(mutant.id) > 1:
            raise Usage(f"{mutant.path}: the id '{mutant.id}' is taken or cannot name a file")
    return chosen


# --- The copy of the tree


def tracked_files():
    """Path and content of what is under version control, as it stands in the work tree."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached"], capture_output=True)
    if listed.returncode != 0:
        raise Broken(f"git ls-files: {listed.stderr.decode(errors='replace').strip()}")
    files = {}
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            files[name] = path.read_bytes()
    return files


def restore(files):
    """Makes the copy equal to `files`, touching only what differs, so that nothing else is compiled again."""
    for directory, names, entries in os.walk(TREE):
        if Path(directory) == TREE and "build" in names:
            names.remove("build")
        for entry in entries:
            path = Path(directory) / entry
            if str(path.relative_to(TREE)) not in files:
                path.unlink()
    for name, content in files.items():
        path = TREE / name
        if path.is_file() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if os.access(ROOT / name, os.X_OK) else 0o644)


def git_apply(mutant, *flags):
    # Out of sight of the repository around it, which would make git look for the files there.
    environment = dict(os.environ, GIT_CEILING_DIRECTORIES=str(SCRATCH), GIT_DIR=str(SCRATCH / "no-repository"))
    return subprocess.run(["git", "apply", "-C1", *flags, str(mutant.path.resolve())], cwd=TREE, env=environment,
                          capture_output=True, text=True)


def plant(mutant, files):
    restore(files)
    tried = git_apply(mutant, "--verbose")
    if tried.returncode == 0:
        return
    # Says which hunks do not fit, by leaving them in .rej files.
    git_apply(mutant, "--reject", "--recount")
    hunks = []
    for rejected in sorted(TREE.rglob("*.rej")):
        if "build" in rejected.relative_to(TREE).parts[:1]:
            continue
        text = rejected.read_text()
        hunks.append(text[text.find("\n@@ ") + 1 :] if "\n@@ " in text else text)
        hunks[-1] = f"in {str(rejected.relative_to(TREE))[:-4]}:\n{hunks[-1].rstrip()}"
    restore(files)
    details = "\n".join(hunks) or tried.stderr.strip()
    raise Usage(f"{mutant.path}: does not apply to the tree as it is; what does not fit is\n{details}")


def build():
    """The path of the command, or the compiler's complaint."""
    environment = dict(os.environ, CCACHE_BASEDIR=str(TREE), CCACHE_NOHASHDIR="1")
    directory = TREE / "build" / "release"
    commands = [["ninja", "-C", str(directory), "--quiet", "mneme"]]
    if not (directory / "build.ninja").exists():
        commands.insert(0, ["cmake", "--preset", "release"])
    for command in commands:
        run = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True)
        if run.returncode != 0:
            return None, "\n".join((run.stdout + run.stderr).strip().splitlines()[-30:])
    return directory / "mneme", ""


def built(name):
    """Builds the copy as it is; the command stays under the name, for replays."""
    command, complaint = build()
    if command is None:
        return None, complaint
    kept = SCRATCH / "bin" / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".part")
    shutil.copy2(command, partial)
    partial.rename(kept)
    return kept, ""


# --- Seeds


def simulate(command, scenario, first, last, cases, flags=()):
    line = [str(command), "sim", scenario, "--json", "--keep-going", "--seeds", f"{first}..{last}", "--out", str(cases), *flags]
    run = subprocess.run(line, capture_output=True, text=True, cwd=SCRATCH)
    try:
        return json.loads(run.stdout)
    except ValueError:
        raise Broken(f"{' '.join(line)}\nended with exit code {run.returncode} and printed no JSON object:\n"
                     f"{(run.stdout + run.stderr).strip()[-2000:]}")


def hunt(mutant, command, first, budget, flags=(), way=""):
    """Runs seeds from `first` on until one fails or the CPU time is spent."""
    cases = SCRATCH / "cases" / (mutant.id + ("-" + way.replace(" ", "-") if way else ""))
    found = {"caught": False, "property": None, "seed": None, "seeds": 0, "cpu_s": 0.0, "inconclusive": 0}
    begin, batch = first, FIRST_BATCH
    while found["cpu_s"] < budget:
        result = simulate(command, mutant.scenario, begin, begin + batch - 1, cases, flags)
        found["cpu_s"] += result["cpu_s"]
        found["inconclusive"] += result["inconclusive"]
        failures = sorted(result["failures"], key=lambda failure: failure["seed"])
        if failures:
            failure = failures[0]
            found.update(caught=True, property=failure["property"], seed=failure["seed"], summary=failure["summary"],
                         case=failure["case"], seeds=failure["seed"] - first + 1)
            break
        begin += batch
        found["seeds"] = begin - first
        # No more than a few seconds beyond what the budget leaves.
        per_seed = max(found["cpu_s"] / found["seeds"], 1e-4)
        batch = min(batch * 2, LARGEST_BATCH, max(1, int((budget - found["cpu_s"]) / per_seed) + 1))
        what = f"{way}: " if way else ""
        show(f"{mutant.id}: {what}{found['seeds']} seeds, {found['cpu_s']:.0f} of {budget} CPU seconds")
    clear()
    found["cpu_s"] = round(found["cpu_s"], 2)
    return found


def median_of(runs):
    """The run in the middle, by CPU time, one that missed being slower than all others; and what all runs say."""
    ordered = sorted(runs, key=lambda found: (not found["caught"], found["cpu_s"]))
    middle = ordered[(len(ordered) - 1) // 2]
    caught = [found for found in runs if found["caught"]]
    return dict(middle, declared=bool(caught) and all(found["declared"] for found in caught), caught_in=len(caught),
                properties=dict(Counter(found["property"] for found in caught).most_common()), ranges=runs)


BLACK_BOX = (("--black-box-only",), "black box")


def hunt_in_ranges(mutant, command, arguments, black_box):
    judge = "the black box alone" if black_box else "the simulator"
    runs = []
    for nth in range(arguments.ranges):
        budget = arguments.black_box_seconds if black_box else arguments.seconds
        found = hunt(mutant, command, 1 + nth * RANGE_DISTANCE, budget, *(BLACK_BOX if black_box else ()))
        found["declared"] = found["caught"] and found["property"] in mutant.expected
        runs.append(found)
        if found["caught"]:
            say(f"{mutant.id}: {judge} caught it: {found['property']}, seed {found['seed']}, "
                f"{found['cpu_s']:.1f} CPU seconds")
        else:
            say(f"{mutant.id}: {judge} missed it in {found['seeds']} seeds, {found['cpu_s']:.0f} CPU seconds")
        if 2 * sum(not found["caught"] for found in runs) > arguments.ranges:
            break  # the median is known
    return median_of(runs)


def examine(mutant, command, arguments):
    result = {"id": mutant.id, "mistake": mutant.mistake, "source": mutant.source, "expected": mutant.expected,
              "scenario": mutant.scenario, "needs": mutant.needs, "seconds": arguments.seconds, "black_box_seconds": arguments.black_box_seconds}
    result.update(hunt_in_ranges(mutant, command, arguments, False))
    result["black_box"] = hunt_in_ranges(mutant, command, arguments, True) if arguments.black_box_seconds else None
    result["ways"] = compare_ways(mutant, command, arguments) if arguments.ways_seconds else None
    return result


def compare_ways(mutant, command, arguments):
    """For each way to search, the CPU seconds to the catch in each range; None where it was missed."""
    spent = {}
    for way, flags in WAYS:
        found = [hunt(mutant, command, 1 + nth * RANGE_DISTANCE, arguments.ways_seconds, flags, way)
                 for nth in range(WAYS_RANGES)]
        spent[way] = [run["cpu_s"] if run["caught"] else None for run in found]
        times = ", ".join("missed" if cpu is None else f"{cpu:.1f}" for cpu in spent[way])
        say(f"{mutant.id}: {way}: {times} CPU seconds")
    return {"seconds": arguments.ways_seconds, "spent": spent}


def run_control(command, caught_at):
    """Seeds from 1 on, and every scenario and seed at which a mutant was caught, without a mutant."""
    cases = SCRATCH / "cases" / "control"
    total = {"id": "control", "seeds": 0, "passed": 0, "failed": 0, "inconclusive": 0, "cpu_s": 0.0, "failures": []}
    spans = [("kv", first, min(first + LARGEST_BATCH - 1, LEAST_CONTROL))
             for first in range(1, LEAST_CONTROL + 1, LARGEST_BATCH)]
    spans += [(scenario, seed, seed) for scenario, seed in sorted(set(caught_at))
              if scenario != "kv" or seed > LEAST_CONTROL]
    for scenario, first, last in spans:
        result = simulate(command, scenario, first, last, cases)
        for key in ("seeds", "passed", "failed", "inconclusive", "cpu_s", "failures"):
            total[key] += result[key]
        show(f"control: {total['seeds']} seeds, {total['failed']} failed")
    clear()
    total["cpu_s"] = round(total["cpu_s"], 2)
    total["clean"] = total["passed"] == total["seeds"]
    return total


def seeds_that_caught(result):
    modes = [result, result.get("black_box")]
    return [(result.get("scenario", "kv"), found["seed"])
            for mode in modes if mode for found in mode.get("ranges", []) if found["caught"]]


# --- Results


def earlier_results(files, chosen):
    """Results and control that --json printed to files, for the mutants chosen."""
    results, controls = {}, []
    for file in files:
        try:
            printed = json.loads(read_text(file))
            results.update({result["id"]: result for result in printed["mutants"]})
            controls.append(printed["control"])
        except (ValueError, KeyError, TypeError):
            raise Usage(f"{file}: is not what --json prints")
    wanted = {mutant.id for mutant in chosen}
    return {id: result for id, result in results.items() if id in wanted}, controls


def joined(controls):
    """One control of several: their sums."""
    keys = ("seeds", "passed", "failed", "inconclusive", "cpu_s", "failures")
    total = dict(controls[0], **{key: sum((control[key] for control in controls[1:]), controls[0][key])
                                 for key in keys})
    return dict(total, clean=all(control["clean"] for control in controls), cpu_s=round(total["cpu_s"], 2))


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="script/mutants", description="Plants known mistakes and counts the seeds until the simulator notices.",
        epilog="Exit codes: 0 all caught and the control clean; 1 not so; 2 usage, or a patch that does not apply.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="which of tests/mutants; default: all, unless --patch")
    parser.add_argument("--patch", action="append", default=[], metavar="FILE", help="a patch that is not in the tree")
    parser.add_argument("--seconds", type=int, default=600, metavar="CPU",
                        help="CPU seconds after which a mutant counts as missed in a range of seeds (default 600)")
    parser.add_argument("--black-box-seconds", type=int, metavar="CPU",
                        help="the same for the black box alone; 0: do not try (default: as --seconds)")
    parser.add_argument("--ranges", type=int, metavar="N",
                        help=f"hunt in N ranges of seeds, of which the median is shown (default {CASUAL_RANGES}; with "
                             f"--json or --write {RECORDED_RANGES})")
    parser.add_argument("--ways-seconds", type=int, default=0, metavar="CPU",
                        help=f"compare ways to search as well: hunt with each in {WAYS_RANGES} ranges, for so many CPU "
                             f"seconds (default 0: do not)")
    parser.add_argument("--sample", type=int, metavar="N",
                        help="N of all mutants, others for every commit")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.add_argument("--write", action="store_true", help="write docs/DETECTION.md; only with all mutants")
    parser.add_argument("--from", action="append", default=[], metavar="FILE", dest="earlier",
                        help="what --json printed: its mutants are not hunted again")
    arguments = parser.parse_intermixed_args(argv)
    recorded = arguments.json or arguments.write
    arguments.ranges = arguments.ranges or (RECORDED_RANGES if recorded else CASUAL_RANGES)
    if arguments.black_box_seconds is None:
        arguments.black_box_seconds = arguments.seconds
    if arguments.seconds < 1 or arguments.ranges < 1 or min(arguments.black_box_seconds, arguments.ways_seconds) < 0:
        parser.error("--seconds and --ranges are whole numbers from 1 on, --black-box-seconds and --ways-seconds from "
                     "0 on")
    if (arguments.write or arguments.sample) and (arguments.ids or arguments.patch):
        parser.error("--write and --sample are for all mutants: name none")
    if arguments.sample is not None and (arguments.sample < 1 or arguments.write):
        parser.error("--sample is a whole number from 1 on, and not for --write")
    return arguments


def lock():
    SCRATCH.mkdir(parents=True, exist_ok=True)
    file = open(SCRATCH / "lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another script/mutants is at work in build/mutants; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def hunt_all(mutants, arguments):
    """The mutants' results, in order, and the control's."""
    held = lock()
    files = tracked_files()
    TREE.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(SCRATCH / "cases", ignore_errors=True)
    for mutant in mutants:
        plant(mutant, files)  # a patch that does not apply is told before anything is built
    restore(files)
    say("building the unmutated control")
    control_command, complaint = built("control")
    if control_command is None:
        raise Broken(f"the tree does not build without a mutant:\n{complaint}")
    results = {}
    for mutant in mutants:
        plant(mutant, files)
        begin = time.monotonic()
        command, complaint = built(mutant.id)
        if command is None:
            say(f"{mutant.id}: does not build")
            results[mutant.id] = {"id": mutant.id, "mistake": mutant.mistake, "needs": mutant.needs, "caught": False,
                                  "build_failed": complaint}
            continue
        say(f"{mutant.id}: built in {time.monotonic() - begin:.0f} s: {mutant.mistake}")
        results[mutant.id] = examine(mutant, command, arguments)
    restore(files)
    control = run_control(control_command, [seed for result in results.values() for seed in seeds_that_caught(result)])
    held.close()
    return results, control


def main(argv):
    arguments = parse(argv)
    mutants = choose(arguments.ids, arguments.patch, arguments.sample)
    pending = pending_lines(known_mutants())
    by_id, controls = earlier_results(arguments.earlier, mutants)
    left = [mutant for mutant in mutants if mutant.id not in by_id]
    if left:
        hunted, control = hunt_all(left, arguments)
        by_id.update(hunted)
        controls.append(control)
    # What a patch says in words may have changed since.
    results = [dict(by_id[mutant.id], mistake=mutant.mistake, needs=mutant.needs) for mutant in mutants]
    control = joined(controls)
    if arguments.write:
        (ROOT / "docs").mkdir(exist_ok=True)
        (ROOT / "docs" / "DETECTION.md").write_text(report.document(results, control, pending))
    if arguments.json:
        print(json.dumps({"mutants": results, "control": control, "pending": pending}, indent=1))
    else:
        print(report.table(results, control, SCRATCH))
    return OK if control["clean"] and all(result["caught"] for result in results) else MISSED


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        sys.exit(main(sys.argv[1:]))
    except Usage as error:
        say(f"mutants: {error}")
        sys.exit(USAGE)
    except Broken as error:
        say(f"mutants: {error}")
        sys.exit(HARNESS)
    except KeyboardInterrupt:
        clear()
        sys.exit(INTERRUPTED)
