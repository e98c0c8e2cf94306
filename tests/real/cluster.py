#!/usr/bin/python3
"""Three nodes, clients that log every acknowledged write, and the leader killed in the middle, again and again.

    tests/real/cluster.py build/release/mneme [--rounds N]

After each kill writes must go on, the killed node must come back and catch up, and every acknowledged write must be
read back from every node. In the end leadership is handed over, and SIGTERM stops each node with exit code 0.
"""

import argparse
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Closed, Connection, Failed, request, require

FIRST_WRITE_WITHIN = 10  # seconds after a kill; elections take 1 to 2 with the default timeouts, and may need a second


class Writer(threading.Thread):
    """Writes unique values one by one; when anything goes wrong it goes to another node with a new key."""

    def __init__(self, number, ports):
        super().__init__(daemon=True)
        self.number = number
        self.ports = ports
        self.acknowledged = []  # (time, key, value)
        self.unknown = 0
        self.refused = 0
        self.ending = False
        self.crash = None

    def run(self):
        try:
            self.work()
        except Exception as error:  # shown by the main thread
            self.crash = error

    def work(self):
        connection = None
        at = self.number
        n = 0
        while not self.ending:
            n += 1
            key, value = f"w{self.number}:{n}", f"{self.number}-{n}-{'x' * (n % 50)}"
            try:
                if connection is None:
                    connection = Connection(self.ports[at % len(self.ports)], 8)
                answer = connection.ask("SET", key, value)
            except (OSError, Closed):
                connection, at = None, at + 1
                self.unknown += 1
                time.sleep(0.02)
                continue
            if answer == b"+OK\r\n":
                self.acknowledged.append((time.monotonic(), key, value))
            elif answer.startswith((b"-UNCERTAIN", b"-CLUSTERDOWN", b"-LOADING")):
                self.unknown += answer.startswith(b"-UNCERTAIN")
                self.refused += not answer.startswith(b"-UNCERTAIN")
                connection.close()
                connection, at = None, at + 1
            else:
                raise Failed(f"SET answered {answer!r}")


def command(binary, *words):
    """What `mneme cluster` says as JSON."""
    done = harness.run([binary, "cluster", *words, "--json"], 20)
    require(done.returncode == 0, f"mneme cluster {' '.join(words)}: exit code {done.returncode}; {done.stderr}")
    return json.loads(done.stdout)


def hand_over(binary, cluster):
    """Leadership goes where it is sent, and status shows it, whichever node is asked."""
    leader = cluster.leader()
    heir, other = [node for node in cluster.nodes if node is not leader]
    def shown_leader(status):
        return next(shard["leader"] for shard in status["shards"] if shard["group"] == harness.FIRST_SHARD)

    before = command(binary, "status", "--node", f"127.0.0.1:{other.port}")
    require(shown_leader(before) == leader.id, f"status names the leader, node {leader.id}: {before}")
    require(before["wrong"] == [] and len(before["nodes"]) == 3, f"nothing is wrong with three nodes: {before}")
    shard = str(harness.FIRST_SHARD)
    done = command(binary, "transfer", shard, f"n{heir.id}", "--node", f"127.0.0.1:{other.port}")
    require(done["outcome"] == "done", f"from {leader.id} to {heir.id}: {done}")
    after = command(binary, "status", "--node", f"127.0.0.1:{leader.port}")
    require(shown_leader(after) == heir.id, f"node {heir.id} leads after the transfer: {after}")
    unknown = harness.run([binary, "cluster", "transfer", shard, "9", "--node", f"127.0.0.1:{other.port}"], 20)
    require(unknown.returncode == 2 and "node 9 is unknown" in unknown.stderr, unknown.stderr)
    shown = harness.run([binary, "cluster", "status", "--node", f"127.0.0.1:{other.port}"], 20).stdout
    require(all(f"n{n}" in shown for n in (1, 2, 3)) and max(map(len, shown.splitlines())) <= 100, shown)
    print(f"leadership handed from node {leader.id} to node {heir.id} in {done['ms']} ms")


def read_back(node, expected):
    connection = Connection(node.port, 30)
    for begin in range(0, len(expected), 500):
        part = expected[begin : begin + 500]
        connection.send(b"".join(request("GET", key) for _, key, _ in part))
        for _, key, value in part:
            got = connection.reply()[0]
            require(
                got == b"$%d\r\n%s\r\n" % (len(value), value.encode()),
                f"node {node.id} answers {got[:80]!r} for {key}, whose write of {value} was acknowledged",
            )
    connection.close()


def same_state(cluster):
    """All nodes have applied the same entries, with the same result."""
    seen = [{group: (one["applied"], one["digest"]) for group, one in n.groups().items()} for n in cluster.nodes]
    return seen[0] != {} and all(one == seen[0] for one in seen)


def test(binary, arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(arguments)
    cluster = harness.Cluster(binary, harness.temporary_directory())
    cluster.start()
    leader = cluster.leader()
    acknowledged = []
    for round in range(options.rounds):
        ports = [n.port for n in cluster.nodes]
        writers = [Writer(round * 100 + i, ports) for i in range(6)]
        for writer in writers:
            writer.start()
        time.sleep(1.5)
        before = sum(len(w.acknowledged) for w in writers)
        require(before > 0, "writes are acknowledged before the kill")
        killed_at = time.monotonic()
        leader.kill()
        time.sleep(0.05)  # answers that had left before
        others = [n for n in cluster.nodes if n is not leader]

        def first():
            times = [t for w in writers for t, _, _ in list(w.acknowledged) if t > killed_at + 0.05]
            return min(times, default=None)

        first_at = harness.wait_until(first, FIRST_WRITE_WITHIN, "a write is acknowledged after the leader was killed")
        time.sleep(2)
        require(cluster.leader() in others, "another node leads")
        leader.start()
        back_at = time.monotonic()
        leader.wait_ready(30)

        def caught_up():
            index = [int(n.groups().get(harness.FIRST_SHARD, {}).get("applied", 0)) for n in cluster.nodes]
            return min(index) > 0 and min(index) >= max(index) - 2000

        harness.wait_until(caught_up, 30, "the killed node catches up while writes go on")
        caught_at = time.monotonic()
        time.sleep(0.5)
        for writer in writers:
            writer.ending = True
        for writer in writers:
            writer.join(20)
            require(not writer.is_alive(), "a writer ends")
            if writer.crash:
                raise writer.crash
        harness.wait_until(lambda: same_state(cluster), 30, "all nodes have applied the same entries to the same effect")
        acknowledged += [a for w in writers for a in w.acknowledged]
        for node in cluster.nodes:
            read_back(node, acknowledged)
        print(
            f"round {round + 1}: {sum(len(w.acknowledged) for w in writers)} writes acknowledged, "
            f"{sum(w.unknown for w in writers)} of unknown outcome, {sum(w.refused for w in writers)} refused; "
            f"kill to first acknowledged write {first_at - killed_at:.3f} s, "
            f"restart to caught up {caught_at - back_at:.3f} s",
            flush=True,
        )
        leader = cluster.leader()
    hand_over(binary, cluster)
    for node in cluster.nodes:
        begun = time.monotonic()
        code = node.terminate()
        require(code == 0, f"SIGTERM ends node {node.id} with exit code {code}: {node.output()}")
        print(f"node {node.id} ended {time.monotonic() - begun:.3f} s after SIGTERM")
    for node in cluster.nodes:
        node.start()
    cluster.leader()
    for node in cluster.nodes:
        node.wait_ready()
        read_back(node, acknowledged)
    print(f"{len(acknowledged)} acknowledged writes read back from every node, and again after all were stopped")


if __name__ == "__main__":
    harness.main(test, 200)
