#!/usr/bin/python3
"""Sixteen shards on three nodes, changed in every way that an operator can while writers go on.

    tests/real/shards.py build/release/mneme

A shard is split, moved and handed over, a node is killed and comes back, a fourth one joins, one is drained and
removed. Two operators race, and what cannot be is refused without changing anything. In the end every acknowledged
write must be read back from every node.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from cluster import Writer, read_back
from harness import Node, free_ports, require

USAGE, UNAVAILABLE, CONFIGURATION = 2, 69, 78
SHARDS = 16


def shape_of(status):
    """All that operators change."""
    shards = [(s["group"], s["slots"], s["replicas"], s.get("operation")) for s in status["shards"]]
    return status["copies"], [(n["id"], n["state"]) for n in status["nodes"]], shards


class Operator:
    def __init__(self, binary, port):
        self.binary = binary
        self.port = port

    def run(self, *words):
        return harness.run([self.binary, "cluster", *words, "--node", f"127.0.0.1:{self.port}"], 60)

    def json(self, *words):
        done = self.run(*words, "--json")
        require(done.returncode == 0, f"mneme cluster {' '.join(words)}: exit code {done.returncode}; {done.stderr}")
        require(done.stderr == "", f"mneme cluster {' '.join(words)} has nothing to complain about: {done.stderr}")
        answer = json.loads(done.stdout)
        print(f"  {' '.join(words)}: {answer.get('ms')} ms", flush=True)
        return answer

    def status(self):
        done = self.run("status", "--json")
        return json.loads(done.stdout)

    def shard(self, group):
        return next(s for s in self.status()["shards"] if s["group"] == group)

    def holders(self, group):
        return [r["node"] for r in self.shard(group)["replicas"]]

    def refused(self, code, sentence, *words):
        before = shape_of(self.status())
        done = self.run(*words)
        what = " ".join(words)
        require(done.returncode == code, f"{what}: exit code {done.returncode} instead of {code}: {done.stderr}")
        require(sentence in done.stderr and done.stdout == "", f"{what}: {sentence!r} is missing in {done.stderr!r}")
        require(done.stderr.count("\n") == 1, f"{what}: one sentence is wanted: {done.stderr!r}")
        require(shape_of(self.status()) == before, f"{what}: nothing has changed")
        print(f"  {code}  {done.stderr.strip()}", flush=True)


def refusals(operator):
    operator.refused(USAGE, "shard 99 is unknown", "split", "99")
    operator.refused(USAGE, "node 9 is unknown", "move", "3", "1", "9")
    operator.refused(USAGE, "node 9 is unknown", "drain", "9")
    operator.refused(USAGE, "n9 is not in this cluster", "remove", "9")
    operator.refused(UNAVAILABLE, "add a node first", "drain", "2")
    operator.refused(UNAVAILABLE, "add a node first", "remove", "n2")
    operator.refused(UNAVAILABLE, "too few for 5 copies", "copies", "5")
    operator.refused(UNAVAILABLE, "it holds the map", "split", "1")
    operator.refused(UNAVAILABLE, "does not divide shard 2", "split", "2", "--at", "9000", "--dry-run")
    require("would split shard 2" in operator.run("split", "2", "--dry-run").stdout, "a plan is shown")


def split_and_transfer(operator):
    before = operator.status()
    done = operator.json("split", "2")
    require(done["outcome"] == "done" and done["child"] == SHARDS + 2, f"the shard is split: {done}")
    after = operator.status()
    require(len(after["shards"]) == len(before["shards"]) + 1, "there is one shard more")
    leader = operator.shard(3)["leader"]
    heir = next(node for node in (1, 2, 3) if node != leader)
    require(operator.json("transfer", "3", f"n{heir}")["outcome"] == "done", "leadership is handed over")
    require(operator.shard(3)["leader"] == heir, "the shard is led by whom it was given to")
    operator.refused(UNAVAILABLE, "leads shard 3 already", "transfer", "3", f"n{heir}")


def crash(cluster, operator):
    victim = cluster.nodes[2]
    victim.kill()
    harness.wait_until(
        lambda: "n3 does not answer" in operator.run("status").stdout, 10, "status says that the node is gone"
    )
    harness.wait_until(
        lambda: all(s["leader"] not in (0, 3) for s in operator.status()["shards"]), 20, "others lead all shards"
    )
    victim.start()
    victim.wait_ready(30)
    harness.wait_until(lambda: operator.status()["wrong"] == [], 30, "nothing is wrong when it is back")


def join(binary, directory, cluster, operator):
    node = Node(binary, directory, 4, join=f"127.0.0.1:{cluster.nodes[1].port}", flags=["--no-balance", "--rack", "r4"])
    node.started(30)
    harness.wait_until(
        lambda: [n["state"] for n in operator.status()["nodes"]] == ["up"] * 4, 20, "the cluster has four nodes"
    )
    require(operator.status()["nodes"][3]["rack"] == "r4", "its rack is known")
    require(operator.json("move", "4", "n1", "n4")["outcome"] == "done", "a shard is moved to it")
    require(operator.holders(4) == [2, 3, 4], "and is there now")
    require(operator.json("add", "5", "4")["outcome"] == "done", "it gets a replica more of another one")
    require(operator.json("remove", "4", "--shard", "5")["outcome"] == "done", "and loses it again")
    require(operator.holders(5) == [1, 2, 3], f"which is gone then: {operator.holders(5)}")
    require(node.terminate() == 0, "SIGTERM ends it")
    node.command = [binary, "node", "--data", node.data, "--no-balance"]  # it knows who and where it is
    node.started(30)
    return node


def race(operator, other):
    """Of two operators who want different things one is told so."""
    require(operator.json("move", "6", "1", "4", "--no-wait")["outcome"] == "pending", "a move has begun")
    done = other.run("move", "6", "2", "4", "--json")
    require(done.returncode == UNAVAILABLE, f"the second is refused: {done.stdout} {done.stderr}")
    require("shard 6" in done.stderr and "nothing was changed" in done.stderr, done.stderr)
    print(f"  {done.stderr.strip()}", flush=True)
    harness.wait_until(lambda: operator.holders(6) == [2, 3, 4], 20, "the first one's wish is done")


def replace(cluster, operator, node):
    """A node that is dead goes with one command, its replicas to the one that joined."""
    plan = operator.run("remove", "1", "--dry-run").stdout
    require("would forget n1" in plan, f"the plan is shown first: {plan}")
    cluster.nodes[0].kill()
    done = operator.json("remove", "n1")
    require(done["replicas"] > 10, f"it held some: {done}")
    status = operator.status()
    require(status["nodes"][0]["state"] == "removed", f"it is removed: {status['nodes']}")
    require(all({2, 3, 4} == {r["node"] for r in s["replicas"]} for s in status["shards"]), "the others hold everything")
    require(status["wrong"] == [], f"nothing is wrong without it: {status['wrong']}")
    operator.refused(UNAVAILABLE, "was removed already", "remove", "1")
    shown = operator.run("status").stdout
    require(max(map(len, shown.splitlines())) <= 100, f"100 columns are enough: {shown}")
    print(shown)


def foreign(binary, directory, cluster):
    """A node with data of its own does not get into another cluster."""
    os.mkdir(directory + "/foreign")
    port = free_ports(1)[0]
    alone = Node(binary, directory + "/foreign", 1, port).started()
    require(alone.terminate() == 0, "SIGTERM ends it")
    command = [binary, "node", "--data", alone.data, "--listen", f"127.0.0.1:{port}"]
    done = harness.run([*command, "--cluster", cluster.list, "--id", "1"], 20)
    require(done.returncode == CONFIGURATION and "--cluster names other nodes" in done.stderr, done.stderr)
    done = harness.run([*command, "--join", f"127.0.0.1:{cluster.nodes[1].port}"], 20)
    require(done.returncode == CONFIGURATION and "belongs to cluster" in done.stderr, done.stderr)


def test(binary, arguments):
    directory = harness.temporary_directory()
    cluster = harness.Cluster(binary, directory, shards=SHARDS)
    for node in cluster.nodes[:2]:
        node.start()
    operator = Operator(binary, cluster.nodes[1].port)
    harness.wait_until(lambda: harness.listens(operator.port), 10, "a node listens")
    waiting = operator.run("init", "--wait", "300ms")
    require(waiting.returncode == UNAVAILABLE and "waits for n3" in waiting.stderr, f"n3 is missing: {waiting.stderr}")
    cluster.nodes[2].start()
    made = operator.json("init", "--wait", "30s")
    require((made["nodes"], made["shards"], made["copies"]) == (3, SHARDS, 3), f"the cluster is what was asked for: {made}")
    writers = [Writer(i, [n.port for n in cluster.nodes[1:]]) for i in range(4)]
    for writer in writers:
        writer.start()
    begun = time.monotonic()

    def step(name, fn, *args):
        print(name, flush=True)
        before = time.monotonic()
        answer = fn(*args)
        print(f"  {time.monotonic() - before:.1f} s", flush=True)
        return answer

    step("refused", refusals, operator)
    step("split and transfer", split_and_transfer, operator)
    step("kill -9", crash, cluster, operator)
    fourth = step("join", join, binary, directory, cluster, operator)
    step("race", race, operator, Operator(binary, fourth.port))
    step("replace", replace, cluster, operator, fourth)
    step("foreign", foreign, binary, directory, cluster)
    for writer in writers:
        writer.ending = True
    for writer in writers:
        writer.join(30)
        require(not writer.is_alive(), "a writer ends")
        if writer.crash:
            raise writer.crash
    acknowledged = [a for w in writers for a in w.acknowledged]
    require(len(acknowledged) > 100, f"writes went on: {len(acknowledged)}")
    for node in (*cluster.nodes[1:], fourth):
        read_back(node, acknowledged)
    print(
        f"{len(acknowledged)} writes acknowledged in {time.monotonic() - begun:.1f} s and read back from every node, "
        f"{sum(w.unknown for w in writers)} of unknown outcome, {sum(w.refused for w in writers)} refused"
    )
    for node in (*cluster.nodes[1:], fourth):
        require(node.terminate() == 0, f"SIGTERM ends node {node.id}: {node.output()}")


if __name__ == "__main__":
    harness.main(test, 180)
