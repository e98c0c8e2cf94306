"""Three nodes on loopback against three etcd.

etcd's clients speak gRPC: h2load sends real Put and Range frames to the leader, one stream a connection. One frame
means one key, so the other side gets one key too (redis-benchmark without -r).
"""
import json
import os
import struct

from common import (Figure, Load, Problem, Workspace, ask, compare, free_ports, mneme_bench, redis_benchmark, run,
                    start_node)

# command, connections, ratio wanted by redis-benchmark and by our own generator, requests of one turn for us, for etcd
LINES = [("set", 1, 2.5, None, 8_000, 3_000), ("set", 50, 6.0, 7.0, 80_000, 16_000),
         ("set", 256, 5.5, 7.0, 120_000, 25_000), ("set", 1000, 5.0, 7.0, 120_000, 25_000),
         ("get", 50, 5.0, None, 100_000, 20_000), ("get", 256, 5.0, None, 120_000, 25_000)]
P99 = 0.25  # of etcd's, at most
GENERATORS = {"redis-benchmark": redis_benchmark, "mneme bench": mneme_bench}
SIZE = 100
LEADS = "group2:role=leader"  # in INFO; group 1 holds the shard map
KEY = b"key:000000000042"


def field(number, data):
    """A length-delimited protobuf field."""
    length = len(data)
    out = bytes([number << 3 | 2])
    while length > 127:
        out += bytes([length & 127 | 128])
        length >>= 7
    return out + bytes([length]) + data


def grpc_frame(message):
    return b"\0" + struct.pack(">I", len(message)) + message


class Etcd:
    def __init__(self, space):
        self.space = space
        ports = free_ports(6)
        self.clients, peers = ports[:3], ports[3:]
        everyone = ",".join(f"e{i}=http://127.0.0.1:{peers[i]}" for i in range(3))
        for i in range(3):
            client, peer = f"http://127.0.0.1:{self.clients[i]}", f"http://127.0.0.1:{peers[i]}"
            space.start(f"e{i}", ["etcd", "--name", f"e{i}", "--data-dir", os.path.join(space.path, f"e{i}"),
                                  "--listen-client-urls", client, "--advertise-client-urls", client,
                                  "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                                  "--initial-cluster", everyone, "--logger", "zap", "--log-level", "error"])
        self.leader = space.wait_until("a leader of etcd", self.find_leader)
        self.frames = {}
        for test, body in (("set", field(1, KEY) + field(2, b"x" * SIZE)), ("get", field(1, KEY))):
            self.frames[test] = os.path.join(space.path, f"frame-{test}")
            with open(self.frames[test], "wb") as f:
                f.write(grpc_frame(body))
        self.load("set", 1, 10)

    def status(self):
        endpoints = ",".join(f"http://127.0.0.1:{p}" for p in self.clients)
        out, *_ = run(["etcdctl", "--endpoints", endpoints, "endpoint", "status", "-w", "json"], 20,
                      env={**os.environ, "ETCDCTL_API": "3"})
        return json.loads(out)

    def find_leader(self):
        try:
            for one in self.status():
                if one["Status"].get("leader") == one["Status"]["header"]["member_id"]:
                    return one["Endpoint"]
        except Problem:
            return None

    def revision(self):
        return max(one["Status"]["header"]["revision"] for one in self.status())

    def load(self, test, connections, requests):
        before = self.revision() if test == "set" else 0
        log = os.path.join(self.space.path, "h2load")
        if os.path.exists(log):
            os.remove(log)
        method = "Put" if test == "set" else "Range"
        out, wall, cpu, _ = run(["h2load", "-t", "1", "-c", str(connections), "-m", "1", "-n", str(requests), "-d",
                                 self.frames[test], "--log-file", log, "-H", "content-type: application/grpc", "-H",
                                 "te: trailers", f"{self.leader}/etcdserverpb.KV/{method}"], 120)
        rate = next((float(line.split()[3]) for line in out.splitlines() if line.startswith("finished in")), None)
        totals = next((line for line in out.splitlines() if line.startswith("requests:")), "")
        if rate is None or " 0 failed" not in totals or " 0 errored" not in totals:
            raise Problem(f"h2load said: {totals or out[-300:]}")
        # A refused Put is an answer too, for h2load: only the store's revision says that all of them were executed.
        if test == "set" and self.revision() - before != requests:
            raise Problem(f"etcd executed {self.revision() - before} of {requests} puts")
        with open(log) as f:
            times = sorted(int(line.split()[2]) for line in f)
        return Load(rate, times[len(times) // 2], times[len(times) * 99 // 100], cpu / wall)


def start_cluster(space):
    """Three of our nodes with one shard, whose leader stays where it is; returns the leader's port."""
    ports = free_ports(3)
    everyone = ",".join(f"{i + 1}=127.0.0.1:{ports[i]}" for i in range(3))
    for i in range(3):
        start_node(space, f"m{i + 1}", ports[i], "--id", str(i + 1), "--cluster", everyone, "--shards", "1", "--no-balance")

    def leader():
        for port in ports:
            if LEADS in ask(port, "INFO", "consensus") and ask(port, "SET", "ready", "1") == "+OK\r\n":
                return port
        return None
    return space.wait_until("a leader of our nodes", leader)


def measure(report, flags):
    with Workspace() as space:
        ours = start_cluster(space)
        theirs = Etcd(space)
        redis_benchmark(ours, "set", 50, 50_000)
        theirs.load("set", 50, 5_000)
        for test, connections, *targets, our_requests, their_requests in LINES:
            for (generator, load), target in zip(GENERATORS.items(), targets):
                name = f"{test.upper()} {connections} by {generator}"
                if flags.only not in name:
                    continue

                def count(requests, part):
                    return max(int(requests * flags.scale * part) // connections, 1) * connections
                p99 = compare(report, "cluster", name, target,
                              lambda part: load(ours, test, connections, count(our_requests, part), size=SIZE),
                              lambda part: theirs.load(test, connections, count(their_requests, part)), flags.turns, "etcd")
                report.add(Figure("cluster", f"{name}, p99", "x etcd's", p99[0] / p99[1], P99, at_most=True))
                if LEADS not in ask(ours, "INFO", "consensus"):
                    raise Problem("our leader changed while it was measured")
