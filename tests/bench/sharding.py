"""What a change of shape costs: three of our nodes on loopback, no peer.

A prober writes one key again and again, on a connection of its own, while something happens to the key's shard. The
stall is the longest time between two of its acknowledgements, less what the same takes when nothing happens.
"""
import binascii
import json
import os
import signal
import socket
import statistics
import threading
import time

from common import MNEME, Figure, Problem, Workspace, ask, free_ports, run, start_node

RECORDS = 1_000_000
SLOTS = 16384


def key_in(low, high):
    """A key whose slot is at least `low` and below `high`."""
    return next(key for key in (f"probe{i}" for i in range(100_000)) if low <= binascii.crc_hqx(key.encode(), 0) % SLOTS < high)


class Prober(threading.Thread):
    """One SET after the other; knows when each was acknowledged."""

    def __init__(self, ports, key):
        super().__init__(daemon=True)
        self.ports, self.key = ports, key
        self.times = []
        self.refused = 0
        self.over = False
        self.start()

    def run(self):
        request = b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$100\r\n%s\r\n" % (len(self.key), self.key.encode(), b"x" * 100)
        turn = 0
        stream = None
        while not self.over:
            try:
                if stream is None:
                    stream = socket.create_connection(("127.0.0.1", self.ports[turn % len(self.ports)]), timeout=2)
                stream.sendall(request)
                answer = stream.recv(1000)
            except OSError:
                answer = b""
            if answer == b"+OK\r\n":
                self.times.append(time.monotonic())
                continue
            self.refused += 1
            if not answer:
                stream, turn = None, turn + 1
                time.sleep(0.002)

    def stop(self):
        self.over = True
        self.join(10)

    def longest_gap(self, begin, end):
        """Between two acknowledgements of which the later one is after `begin` and the earlier one before `end`, in ms."""
        gaps = [b - a for a, b in zip(self.times, self.times[1:]) if b > begin and a < end]
        if not gaps:
            raise Problem("the prober got no answer")
        return max(gaps) * 1000


class Cluster:
    def __init__(self, space, shards, *flags):
        self.space = space
        self.ports = free_ports(3)
        self.flags = flags
        self.everyone = ",".join(f"{i + 1}=127.0.0.1:{p}" for i, p in enumerate(self.ports))
        self.shards = shards
        self.nodes = [self.start(i) for i in range(3)]
        space.wait_until("a cluster", lambda: all(s["leader"] for s in self.status()["shards"]))
        for slot in range(0, SLOTS, SLOTS // min(shards, 16)):
            space.wait_until("an answer", lambda: ask(self.ports[0], "SET", key_in(slot, slot + SLOTS // min(shards, 16)), "1") == "+OK\r\n")

    def start(self, i):
        return start_node(self.space, f"{self.shards}-n{i + 1}", self.ports[i], "--id", str(i + 1), "--cluster", self.everyone, "--shards",
                          str(self.shards), "--no-balance", *self.flags)

    def operate(self, *words, port=None):
        out, *_ = run([MNEME, "cluster", *words, "--node", f"127.0.0.1:{port or self.ports[0]}", "--json"], 100)
        return json.loads(out)

    def status(self):
        try:
            return self.operate("status")
        except Problem:
            return {"shards": [{"leader": 0}]}

    def shard(self, group):
        return next(s for s in self.status()["shards"] if s.get("group") == group)

    def leader_port(self, group):
        return self.ports[self.shard(group)["leader"] - 1]

    def close(self):
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            node.wait(20)
            self.space.servers.remove(node)


def bench(ports, connections, requests, mix="set", keys=100_000):
    """By the cluster's own generator; the whole of its JSON."""
    out, *_ = run([MNEME, "bench", "--nodes", ",".join(f"127.0.0.1:{p}" for p in ports), "--clients", str(connections),
                   "--requests", str(requests), "--mix", mix, "--keys", str(keys), "--json",
                   *(["--cluster"] if len(ports) > 1 else [])], 120)
    return json.loads(out)


def splits(report, flags):
    """A million values in one shard of three copies, then it is split in the middle; one prober in each half."""
    stalls = {"stays": [], "goes": []}
    records = int(RECORDS * flags.scale)
    for _ in range(flags.turns):
        with Workspace() as space:
            cluster = Cluster(space, 1)
            leader = cluster.leader_port(2)
            run([MNEME, "bench", "-p", str(leader), "--clients", "50", "--pipeline", "64", "--requests", str(3 * records),
                 "--keys", str(records), "--size", "100", "--json"], 200)
            probers = {"stays": Prober([leader], key_in(0, SLOTS // 2)), "goes": Prober([leader], key_in(SLOTS // 2, SLOTS))}
            time.sleep(2)
            begin = time.monotonic()
            cluster.operate("split", "2", "--at", str(SLOTS // 2), port=leader)
            time.sleep(2.5)
            end = time.monotonic()
            for name, prober in probers.items():
                prober.stop()
                usual = prober.longest_gap(begin - 1.5, begin - 0.1)
                stalls[name].append((prober.longest_gap(begin, end), usual, prober.refused))
    for name, what in (("stays", "of keys that stay"), ("goes", "of keys that go")):
        report.add(Figure("sharding", f"split of {records:,}: {what}", "ms", statistics.median(s[0] for s in stalls[name]), 50,
                          at_most=True, details={"all ms": "/".join(f"{s[0]:.0f}" for s in stalls[name]),
                                                 "without a split ms": "/".join(f"{s[1]:.0f}" for s in stalls[name]),
                                                 "refused": sum(s[2] for s in stalls[name])}))


def moves(report, flags):
    """A replica of a shard of a million values moves to a fourth node, while one prober writes there."""
    gaps = []
    records = int(RECORDS * flags.scale)
    with Workspace() as space:
        cluster = Cluster(space, 1)
        fourth = free_ports(1)[0]
        start_node(space, "n4", fourth, "--join", f"127.0.0.1:{cluster.ports[0]}", "--no-balance")
        space.wait_until("a fourth node", lambda: len(cluster.status().get("nodes", [])) == 4)
        leader = cluster.leader_port(2)
        run([MNEME, "bench", "-p", str(leader), "--clients", "50", "--pipeline", "64", "--requests", str(3 * records),
             "--keys", str(records), "--size", "100", "--json"], 200)
        prober = Prober([leader], "probe")
        time.sleep(2)
        other = next(i + 1 for i in range(3) if cluster.ports[i] != leader)
        here, there = other, 4
        for _ in range(flags.turns):
            begin = time.monotonic()
            cluster.operate("move", "2", str(here), str(there), port=leader)
            gaps.append((prober.longest_gap(begin, time.monotonic()), prober.longest_gap(begin - 1.5, begin),
                         time.monotonic() - begin))
            here, there = there, here
            time.sleep(2)
        prober.stop()
    report.add(Figure("sharding", f"move of {records:,}: writes", "ms", statistics.median(g[0] for g in gaps), None, details={
        "all ms": "/".join(f"{g[0]:.0f}" for g in gaps), "without a move ms": "/".join(f"{g[1]:.0f}" for g in gaps),
        "it took s": "/".join(f"{g[2]:.1f}" for g in gaps), "refused": prober.refused}))


def failovers(report, flags):
    """The leader is killed (SIGKILL); to the first write that another node acknowledges. Default timeouts."""
    times = []
    with Workspace() as space:
        cluster = Cluster(space, 1)
        for _ in range(2 * flags.turns + 1):
            leader = space.wait_until("a leader", lambda: cluster.shard(2)["leader"])
            others = [p for i, p in enumerate(cluster.ports) if i + 1 != leader]
            prober = Prober(others, "probe")
            time.sleep(1.5)
            victim = cluster.nodes[leader - 1]
            space.servers.remove(victim)
            begin = time.monotonic()
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            time.sleep(4)
            prober.stop()
            after = [t for t in prober.times if t > begin + 0.02]
            if not after:
                raise Problem("no write was acknowledged within 4 s of the leader's end")
            times.append(max(b - a for a, b in zip(prober.times, prober.times[1:]) if b > begin))
            cluster.nodes[leader - 1] = cluster.start(leader - 1)
            space.wait_until("three nodes", lambda: all(n["answers"] for n in cluster.operate(
                "status", port=others[0])["nodes"]))
            time.sleep(1)
    report.add(Figure("sharding", "leader killed to first write", "s", statistics.median(times), 1.0, at_most=True,
                      details={"all s": "/".join(f"{t:.2f}" for t in sorted(times))}))


def forwarding(report, flags):
    """One SET at a time to the leader, and to a node that forwards it."""
    with Workspace() as space:
        cluster = Cluster(space, 1)
        leader = cluster.leader_port(2)
        other = next(p for p in cluster.ports if p != leader)
        for test, requests in (("set", 4000), ("get", 12_000)):
            medians = ([], [])
            for port in (leader, other):
                bench([port], 1, requests // 4, test, 1000)
            for turn in range(flags.turns):
                for side in ((0, 1) if turn % 2 == 0 else (1, 0)):
                    done = bench([(leader, other)[side]], 1, requests, test, 1000)
                    medians[side].append(done["latency_ns"]["p50"] / 1000)
            here, there = (statistics.median(m) for m in medians)
            report.add(Figure("sharding", f"forwarding adds, {test.upper()} 1", "us", there - here, 100, at_most=True,
                              details={"leader p50 us": here, "forwarded p50 us": there}))


def many_shards(report, flags):
    """Sixteen shards, led by all three nodes, against one; the generator sends each key to its owner."""
    with Workspace() as space:
        clusters = [Cluster(space, shards) for shards in (16, 1)]
        clusters[0].operate("rebalance")
        for connections, requests in ((50, 60_000), (256, 100_000)):
            rates = ([], [])
            for cluster in clusters:
                bench(cluster.ports, connections, requests // 4)
            for turn in range(flags.turns):
                for side in ((0, 1) if turn % 2 == 0 else (1, 0)):
                    rates[side].append(bench(clusters[side].ports, connections, int(requests * flags.scale))["per_second"])
            ours, theirs = (statistics.median(r) for r in rates)
            report.add(Figure("sharding", f"16 shards, SET {connections}", "x one shard", ours / theirs, 1.0,
                              details={"16/s": ours, "1/s": theirs}))


def measure(report, flags):
    for part in (splits, moves, failovers, forwarding, many_shards):
        if flags.only in part.__name__:
            try:
                part(report, flags)
            except Problem as problem:
                report.skip(part.__name__, str(problem))
