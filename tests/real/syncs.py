#!/usr/bin/python3
"""A system-call trace of three nodes: before a SET is acknowledged, a majority has synced it.

    tests/real/syncs.py build/release/mneme

Every node runs under strace with blocking disk I/O, so that its syncs are visible. Each SET has a key of its own, whose
bytes are looked for in the writes of each node; what counts is a write of them that was synced, by fdatasync() of the
same file or by a pwritev2() with RWF_DSYNC, and that had returned before the leader began to send the answer. All
times are of one machine's clock.
"""

import os
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Cluster, Connection, require

SETS = 40
LINE = re.compile(r"^(\d+) +(\d+\.\d+) (.*)$")
WHOLE = re.compile(r"^(\w+)\((.*)\) += (-?\d+).*?(?:<(\d+\.\d+)>)?$")
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)\) += (-?\d+).*$")


class Call:
    def __init__(self, name, arguments, result, begun, ended):
        self.name, self.arguments, self.result, self.begun, self.ended = name, arguments, result, begun, ended
        descriptor = re.match(r"(\d+)", arguments)
        self.descriptor = int(descriptor.group(1)) if descriptor else -1


def calls_of(path):
    """The completed calls of a trace, in the order of their ends."""
    calls, unfinished = [], {}
    with open(path, errors="replace") as f:
        for line in f:
            parts = LINE.match(line.rstrip("\n"))
            if not parts:
                continue
            thread, at, text = parts.group(1), float(parts.group(2)), parts.group(3)
            if text.endswith("<unfinished ...>"):
                unfinished[thread] = (at, text[: -len("<unfinished ...>")])
                continue
            if resumed := RESUMED.match(text):
                begun, head = unfinished.pop(thread, (at, resumed.group(1) + "("))
                calls.append(Call(resumed.group(1), head.partition("(")[2] + resumed.group(2), int(resumed.group(3)), begun, at))
            elif whole := WHOLE.match(text):
                calls.append(Call(whole.group(1), whole.group(2), int(whole.group(3)), at, at + float(whole.group(4) or 0)))
    return sorted(calls, key=lambda c: c.ended)


def synced_at(calls, key):
    """When this node had first synced a write with these bytes; None: never."""
    written = set()
    for call in calls:
        if call.result < 0:
            continue
        if call.name in ("pwrite64", "pwritev2", "pwritev", "write", "writev") and key in call.arguments:
            if call.name == "pwritev2" and "DSYNC" in call.arguments:
                return call.ended
            written.add((call.descriptor, call.ended))
        elif call.name in ("fdatasync", "fsync"):
            if any(d == call.descriptor and at <= call.begun for d, at in written):
                return call.ended
    return None


def test(binary, arguments):
    strace = shutil.which("strace")
    if not strace:
        return "there is no strace (apt install strace)"
    directory = harness.temporary_directory()
    if harness.run([strace, "-o", directory + "/probe", "true"]).returncode != 0:
        return "strace cannot trace here"

    def wrapper(id):
        calls = "pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,sendto,sendmsg,recvfrom"
        return [strace, "-D", "-f", "-ttt", "-T", "-s", "100000", "-e", "trace=" + calls, "-o", f"{directory}/trace{id}"]

    cluster = Cluster(binary, directory, flags=["--io", "blocking"], wrapper=wrapper)
    cluster.start()
    leader = cluster.leader()
    connection = Connection(leader.port)
    sent = []
    for i in range(SETS):
        key = f"unique-{i:03}-key"
        begun = time.time()
        require(connection.ask("SET", key, "value") == b"+OK\r\n", "SET is acknowledged")
        sent.append((key, begun, time.time()))
        time.sleep(0.01)
    require(cluster.leader() is leader, "the same node leads throughout")
    for node in cluster.nodes:
        require(node.terminate() == 0, f"SIGTERM ends node {node.id}")

    def whole(path):
        with open(path, "rb") as f:
            return b"+++ exited" in f.read()[-300:]

    for node in cluster.nodes:
        harness.wait_until(lambda: whole(f"{directory}/trace{node.id}"), 20, "the trace is complete")
    traces = {node.id: calls_of(f"{directory}/trace{node.id}") for node in cluster.nodes}
    margins, counts = [], []
    for key, begun, ended in sent:
        answers = [c for c in traces[leader.id] if c.name in ("sendto", "sendmsg") and '"+OK\\r\\n"' in c.arguments]
        answers = [c for c in answers if begun <= c.begun <= ended]
        require(len(answers) == 1, f"{key}: {len(answers)} answers are in the leader's trace between {begun} and {ended}")
        times = {id: synced_at(calls, key) for id, calls in traces.items()}
        before = sorted(at for at in times.values() if at is not None and begun <= at <= answers[0].begun)
        require(
            len(before) * 2 > len(traces),
            f"{key}: acknowledged at {answers[0].begun}, but synced at {times} on nodes 1 to 3; the leader is {leader.id}",
        )
        majority = before[len(traces) // 2]
        margins.append(answers[0].begun - majority)
        counts.append(len(before))
    print(
        f"{SETS} SETs: each was synced by a majority before its answer left, on {sum(counts) / len(counts):.2f} nodes on "
        f"average, {min(margins) * 1e6:.0f} to {max(margins) * 1e6:.0f} us before"
    )


if __name__ == "__main__":
    harness.main(test, 120)
