"""Plants mistakes in the checker itself, or in the client library, one at a time, and requires unit tests to notice.

usage: python3 tests/mutants/checker.py BUILD [--client] [ID...]     BUILD: where the unit tests are built; none named: all

A mutant is a patch in tests/mutants/checker or client, with `mistake:` in its first line. It is applied to a copy of the
folder, of which only the files that it concerns are compiled and linked with everything else as it is. Exit 0: all
noticed.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = "--client" in sys.argv
PATCHES = Path(__file__).resolve().parent / ("client" if CLIENT else "checker")
FOLDER = Path("core/client" if CLIENT else "sim/check")
TESTS = "unit_client" if CLIENT else "unit_check"
LEFT_OUT = ["~[nodes]"] if CLIENT else []  # what takes long and is not needed
ROUNDS = 20_000  # of the comparison with brute force: a sixth of what the test itself takes


def say(text):
    print(text, flush=True)


def commands(build):
    """How the build compiles each file of the checker, and how it links the tests."""
    lines = subprocess.run(["ninja", "-C", str(build), "-t", "commands", f"tests/{TESTS}"], capture_output=True,
                           text=True, check=True).stdout.splitlines()
    compile_lines = {}
    for line in lines:
        found = re.search(rf" -c (\S+/{FOLDER}/(\w+\.cc))$", line)
        if found:
            compile_lines[found[2]] = line
    return compile_lines, next(line for line in lines if f" -o tests/{TESTS} " in line)


def concerned(tree, changed):
    """The sources that are to be compiled again: those changed, and those that include a changed header."""
    names = {Path(name).name for name in changed}
    grown = True
    while grown:
        includes = {path.name: set(re.findall(rf'#include "{FOLDER}/(\w+\.h)"', path.read_text()))
                    for path in (tree / FOLDER).iterdir()}
        more = {name for name, headers in includes.items() if headers & names} - names
        grown = bool(more)
        names |= more
    return sorted(name for name in names if name.endswith(".cc"))


def compiled(line, source, tree, build):
    words = [word for word in shlex.split(line) if word != "-O3" and Path(word).name != "ccache"]
    words[words.index("-o") + 1] = str(tree / (source + ".o"))
    words[words.index("-MF") + 1] = str(tree / (source + ".d"))
    words[words.index("-c") + 1] = str(tree / FOLDER / source)
    subprocess.run([words[0], "-O1", f"-I{tree}", *words[1:]], cwd=build, check=True)
    return str(tree / (source + ".o"))


def linked(line, objects, tree, build):
    """The mutated objects come first, so that the library's own are not asked for."""
    line = line.removeprefix(": && ").removesuffix(" && :")
    words = shlex.split(line)
    at = words.index("-o")
    words[at + 1] = str(tree / TESTS)
    words[at:at] = objects
    subprocess.run(words, cwd=build, check=True)
    return tree / TESTS


def examine(patch, build, compile_lines, link_line, scratch):
    tree = scratch / patch.stem
    shutil.copytree(ROOT / FOLDER, tree / FOLDER)
    # Out of sight of the repository around it, which would make git look for the files there.
    environment = dict(os.environ, GIT_CEILING_DIRECTORIES=str(scratch), GIT_DIR=str(scratch / "no-repository"))
    applied = subprocess.run(["git", "apply", "-C1", str(patch)], cwd=tree, env=environment, capture_output=True,
                             text=True)
    if applied.returncode != 0:
        return f"{patch.stem}: does not apply; renew it\n{applied.stderr}", False
    changed = re.findall(r"^\+\+\+ b/(\S+)", patch.read_text(), re.M)
    objects = [compiled(compile_lines[source], source, tree, build) for source in concerned(tree, changed)]
    program = linked(link_line, objects, tree, build)
    environment = dict(os.environ, MNEME_FUZZ_ROUNDS=str(ROUNDS))
    try:
        run = subprocess.run([str(program), "--abort", *LEFT_OUT], env=environment, capture_output=True, text=True, timeout=120)
        noticed = run.returncode != 0
        by = re.search(r"^-{20,}\n(.+)\n", run.stdout, re.M)
        by = by[1] if by else f"signal {-run.returncode}" if run.returncode < 0 else "no test"
    except subprocess.TimeoutExpired:
        noticed, by = True, "a test that does not end"
    mistake = patch.read_text().splitlines()[0].removeprefix("mistake: ")
    return f"{patch.stem}: {mistake}: {'noticed by: ' + by if noticed else 'NOT NOTICED'}", noticed


def main(argv):
    argv = [arg for arg in argv if arg != "--client"]
    build = Path(argv[0]).resolve()
    patches = sorted(path for path in PATCHES.glob("*.patch") if not argv[1:] or path.stem in argv[1:])
    compile_lines, link_line = commands(build)
    all_noticed = bool(patches)
    with tempfile.TemporaryDirectory(dir=build) as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [pool.submit(examine, patch, build, compile_lines, link_line, Path(scratch)) for patch in patches]
        for run in runs:
            text, noticed = run.result()
            say(text)
            all_noticed &= noticed
    return 0 if all_noticed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
