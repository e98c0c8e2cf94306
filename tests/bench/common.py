"""What all parts share: processes that are stopped by id, medians, figures with their targets."""
import ctypes
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build", "release")
MNEME = os.environ.get("MNEME_BENCH_BINARY") or os.path.join(BUILD, "mneme")  # another build, to compare


class Problem(Exception):
    """A measurement that could not be made; the sentence says why."""


@dataclass
class Figure:
    part: str
    name: str
    unit: str
    value: float  # what the target speaks of: a ratio where there is a peer
    target: float | None = None
    at_most: bool = False  # the target is a bound from above
    details: dict = field(default_factory=dict)

    def reached(self):
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def json(self):
        return {**asdict(self), "reached": self.reached()}


def number(x):
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 100 else f"{x:.2f}" if x >= 1 else f"{x:.3g}"


class Report:
    def __init__(self, as_json):
        self.as_json = as_json
        self.figures = []
        self.skipped = []

    def say(self, text):
        if not self.as_json:
            print(text, flush=True)

    def add(self, figure):
        self.figures.append(figure)
        if self.as_json:
            return
        verdict = ""
        if figure.target is not None:
            sign = "at most" if figure.at_most else "at least"
            verdict = f"{sign} {number(figure.target)}: "
            if figure.reached():
                verdict += "reached"
            else:
                off = figure.value / figure.target - 1
                verdict += f"SHORT by {abs(off) * 100:.0f}%"
        notes = ", ".join(f"{k} {number(v) if isinstance(v, (int, float)) else v}" for k, v in figure.details.items())
        print(f"  {figure.name:<34} {number(figure.value):>10} {figure.unit:<16} {verdict:<28} {notes}", flush=True)

    def skip(self, part, why):
        self.skipped.append({"part": part, "why": why})
        self.say(f"  not measured: {why}")

    def finish(self):
        if self.as_json:
            print(json.dumps({"figures": [f.json() for f in self.figures], "skipped": self.skipped}))
            return
        judged = [f for f in self.figures if f.target is not None]
        short = [f for f in judged if not f.reached()]
        print(f"{len(judged) - len(short)} of {len(judged)} targets reached"
              + ("; short: " + ", ".join(f"{f.part} {f.name}" for f in short) if short else ""))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Workspace:
    """A temporary directory on the disk of the build, and the servers started in it."""

    def __enter__(self):
        base = os.path.join(ROOT, "build")
        self.path = tempfile.mkdtemp(prefix="bench-", dir=base)
        self.servers = []
        return self

    def __exit__(self, *exc):
        for server in self.servers:
            if server.poll() is None:
                server.terminate()
        for server in self.servers:
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        shutil.rmtree(self.path, ignore_errors=True)
        return False

    def start(self, name, command):
        with open(os.path.join(self.path, name + ".log"), "wb") as log:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                      cwd=self.path, preexec_fn=die_with_parent)
        server.name = name
        self.servers.append(server)
        return server

    def log(self, name):
        with open(os.path.join(self.path, name + ".log"), errors="replace") as log:
            return log.read()[-2000:]

    def wait_until(self, what, ready, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for server in self.servers:
                if server.poll() is not None:
                    raise Problem(f"{server.name} ended with {server.returncode}: {self.log(server.name)}")
            try:
                if answer := ready():
                    return answer
            except OSError:
                pass
            time.sleep(0.05)
        raise Problem(f"{what} did not come within {seconds} s")


def die_with_parent():
    """A benchmark that is killed leaves no server behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def run(command, seconds=300, accept=(0,), **options):
    """Runs to the end; returns stdout, wall and CPU seconds, peak KiB."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, preexec_fn=die_with_parent, **options)
    timer_fired = []
    timer = threading.Timer(seconds, lambda: (timer_fired.append(1), process.kill()))
    timer.start()
    errors = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    out = process.stdout.read()
    reader.join()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - begin
    if timer_fired:
        raise Problem(f"{command[0]} took longer than {seconds} s")
    if process.returncode not in accept:
        raise Problem(f"{' '.join(command[:6])} ended with {process.returncode}: {(errors[0] or out)[-500:]}")
    return out, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def ask(port, *words):
    """One RESP request; the raw reply as text."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        return s.recv(65536).decode(errors="replace")


def cpu_seconds_of(pid):
    """User and system time so far of a process with its threads."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Load:
    rate: float  # requests a second
    p50_us: float
    p99_us: float
    generator: float  # CPU share of the load generator while it ran, of one core


def redis_benchmark(port, test, connections, requests, pipeline=1, keys=None, size=100):
    command = ["redis-benchmark", "-p", str(port), "-t", test, "-d", str(size), "-n", str(requests), "-c",
               str(connections), "-P", str(pipeline), "--csv"]
    if keys:
        command += ["-r", str(keys)]
    out, wall, cpu, _ = run(command, 120)
    rows = [line.replace('"', "").split(",") for line in out.splitlines() if line.startswith('"')]
    if len(rows) != 2 or rows[0][1] != "rps":
        raise Problem(f"redis-benchmark said: {out[-300:]}")
    row = dict(zip(rows[0], rows[1]))
    return Load(float(row["rps"]), float(row["p50_latency_ms"]) * 1000, float(row["p99_latency_ms"]) * 1000, cpu / wall)


def mneme_bench(port, test, connections, requests, size=100, keys=1):
    """Our own generator: epoll and nothing else, so that it takes less of the machine that it shares with the nodes."""
    out, wall, cpu, _ = run([MNEME, "bench", "-p", str(port), "--mix", test, "--clients", str(connections), "--requests",
                             str(requests), "--size", str(size), "--keys", str(keys), "--json"], 120)
    done = json.loads(out)
    if done["errors"] or done["lost_connections"]:
        raise Problem(f"mneme bench met errors: {done['errors']}, {done['lost_connections']} connections lost")
    return Load(done["per_second"], done["latency_ns"]["p50"] / 1000, done["latency_ns"]["p99"] / 1000, cpu / wall)


def compare(report, part, name, target, ours, theirs, turns, peer):
    """Turn by turn, whoever begins alternating; `ours` and `theirs` return a Load. Adds the ratio of the medians; returns
    the medians of the 99th percentiles, in us."""
    loads = ([], [])
    ours(0.2)
    theirs(0.2)
    for turn in range(turns):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        for side in order:
            loads[side].append((ours, theirs)[side](1.0))
    rate = [statistics.median(l.rate for l in side) for side in loads]
    spread = [f"{min(l.rate for l in side) / 1000:.1f}..{max(l.rate for l in side) / 1000:.1f}k" for side in loads]
    report.add(Figure(part, name, f"x {peer}", rate[0] / rate[1], target, details={
        "ours/s": rate[0], "theirs/s": rate[1],
        "p50 us": "/".join(number(statistics.median(l.p50_us for l in side)) for side in loads),
        "p99 us": "/".join(number(statistics.median(l.p99_us for l in side)) for side in loads),
        "generator's CPU": "/".join(f"{100 * statistics.median(l.generator for l in side):.0f}%" for side in loads),
        "turns": "/".join(spread)}))
    return [statistics.median(l.p99_us for l in side) for side in loads]


def start_node(space, name, port, *flags):
    return space.start(name, [MNEME, "node", "--listen", f"127.0.0.1:{port}", "--data", os.path.join(space.path, name),
                              "--log", "warn", *flags])
