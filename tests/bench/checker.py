"""The checker: recorded histories, generated ones of the same kind, and a very long one; then the whole command."""
import json
import os
import re
import statistics

from common import BUILD, MNEME, ROOT, Figure, run

FOLDER = os.path.join(ROOT, "tests", "golden", "histories")
PORCUPINE_MS = 601  # the twenty Jepsen histories, checking only; see the README beside them


def measure(report, flags):
    out, *_ = run([os.path.join(BUILD, "tests", "bench", "bench_checker"), FOLDER, str(int(501 * flags.scale))], 280)
    result = json.loads(out)
    jepsen = {name: one for name, one in result["recorded"].items() if name.startswith("etcd_")}
    took = sum(one["us"] for one in jepsen.values()) / 1000
    slowest = max(jepsen, key=lambda name: jepsen[name]["us"])
    report.add(Figure("checker", "twenty Jepsen histories", "x porcupine", PORCUPINE_MS / took, 100, details={
        "ms": took, "explained, ms": sum(one["explained_us"] for one in jepsen.values()) / 1000,
        f"slowest, us ({slowest})": jepsen[slowest]["us"]}))
    for one in result["generated"]:
        report.add(Figure("checker", one["name"], "us, mean", one["mean_us"], details={
            "median": one["median_us"], "99%": one["p99_us"], "worst": one["worst_us"], "histories": one["histories"],
            "violations": one["violations"], "inconclusive": one["inconclusive"]}))
    million = result["million"]
    report.add(Figure("checker", "million operations, unique writes", "s", million["unique"]["us"] / 1e6, 1, True, details={
        "MiB": million["unique"]["peak_kib"] / 1024, "replay, s": million["replay_us"] / 1e6,
        "by search, s": million["search"]["us"] / 1e6, "MiB by search": million["search"]["peak_kib"] / 1024,
        "by frontier, s": million["frontier"]["us"] / 1e6, "MiB by frontier": million["frontier"]["peak_kib"] / 1024}))
    measure_command(report, flags)


def measure_command(report, flags):
    """The whole process, starting and reading the file included."""
    if not re.search(r"^  check ", run([MNEME, "--help"])[0], re.M):
        report.skip("checker", "this build has no command that checks history files")
        return
    took = {}
    for file in sorted(os.listdir(FOLDER)):
        if not file.endswith((".log", ".txt")):
            continue
        flags_for = ["--model", "register", "--format", "jepsen"] if file.endswith(".log") else \
            ["--model", "kv", "--format", "kv"]
        turns = [run([MNEME, "check", os.path.join(FOLDER, file), *flags_for], 60, accept=(0, 1)) for _ in
                 range(flags.turns)]
        took[file] = statistics.median(cpu for _, _, cpu, _ in turns) * 1000
    slowest = max(took, key=took.get)
    report.add(Figure("checker", "slowest history as a command", "ms", took[slowest], 10, True, details={
        "file": slowest, "histories": len(took), "all of them, ms": sum(took.values())}))
