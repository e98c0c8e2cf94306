"""The simulator by itself."""
import json
import os
import re
import shutil
import statistics
import tempfile

from common import BUILD, MNEME, ROOT, Figure, Problem, run

# A run with next to nothing in it: what remains is what every seed costs.
TINY = ["nodes=1", "clients=1", "operations=1", "duration=100"]


def settings(values):
    return [word for value in values for word in ("--set", value)]


def drawn():
    """From where each seed draws its heartbeat and its mix of operations."""
    with open(os.path.join(ROOT, "sim", "scenarios", "options.h")) as f:
        found = re.findall(r'X\((\w+), "(\w*)", \d+, \d+, (\d+), (\d+),', f.read())
    return ", ".join(f"{name} {low}..{high}{' ' + unit if unit else ''}" for name, unit, low, high in found
                     if name.startswith("mix_") or name in ("heartbeat", "nodes", "clients"))


def sim(seeds, *words):
    out, wall, cpu, peak = run([MNEME, "sim", "--seeds", f"1..{seeds}", "--json", *words], 280)
    return json.loads(out.splitlines()[-1]), wall, cpu, peak


def instructions(seeds):
    """Retired in user space, of the lane and of all its seeds, and the operations that they checked."""
    # Valgrind counts every step of "rep stos" and "rep movs"; below these thresholds libc does without.
    tunables = ":".join(f"glibc.cpu.x86_rep_{kind}_threshold={1 << 30}" for kind in ("stosb", "movsb"))
    with tempfile.TemporaryDirectory() as space:
        counted = os.path.join(space, "%p")
        out, *_ = run(["valgrind", "-q", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={counted}",
                       MNEME, "sim", "--seeds", f"1..{seeds}", "--jobs", "1", "--json"], 280,
                      env={**os.environ, "GLIBC_TUNABLES": tunables})
        total = 0
        for name in os.listdir(space):
            with open(os.path.join(space, name)) as f:
                total += sum(int(count) for count in re.findall(r"^(?:summary|totals): (\d+)", f.read(), re.M)[:1])
    return total, json.loads(out.splitlines()[-1])["operations"]


def measure_instructions(report):
    """Steadier than time on a machine that others use too."""
    if not shutil.which("valgrind"):
        return report.skip("sim", "instructions per operation: valgrind is not installed")
    seeds = 3
    try:
        total, operations = instructions(seeds)
    except Problem as problem:
        return report.skip("sim", f"instructions per operation: {problem}")
    report.add(Figure("sim", "instructions per checked operation", "", total / operations, details={"seeds": seeds}))


def measure(report, flags):
    seeds = 80 if flags.quick else 200
    turns = [sim(seeds) for _ in range(min(flags.turns, 3))]
    result = turns[0][0]
    report.say("  drawn for each seed: " + drawn())
    per_cpu = statistics.median(r["operations"] / r["cpu_s"] for r, *_ in turns)
    report.add(Figure("sim", "checked operations per CPU second", "ops/s", per_cpu, 100_000, details={
        "events per CPU second": statistics.median(r["events"] / r["cpu_s"] for r, *_ in turns),
        "seeds": seeds, "operations": result["operations"], "unknown": result["unknown"], "faults": result["faults"],
        "failed": result["failed"], "trace hash": result["trace_hash"]}))
    measure_instructions(report)
    idle = [json.loads(run([os.path.join(BUILD, "tests", "bench", "bench_idle")])[0]) for _ in range(flags.turns)]
    report.add(Figure("sim", "idle cluster of five", "virtual s/CPU s",
                      statistics.median(r["virtual_s"] / r["cpu_s"] for r in idle), 50_000, details={
                          "heartbeat ms": idle[0]["heartbeat_ms"],
                          "events per virtual second": idle[0]["events"] / idle[0]["virtual_s"]}))
    count = 200
    tiny = [sim(count, "--jobs", "1", *settings(TINY)) for _ in range(flags.turns)]
    report.add(Figure("sim", "overhead per seed", "ms",
                      statistics.median(wall for _, wall, *_ in tiny) * 1000 / count, 5, True, details={
                          "of it in the run, ms": statistics.median(r["cpu_s"] for r, *_ in tiny) * 1000 / count,
                          "options": " ".join(TINY)}))
    report.add(Figure("sim", "peak memory of a seed", "MiB", max(peak for *_, peak in turns) / 1024, 64, True))
