#!/usr/bin/python3
"""Redis's own cluster clients while shards split and move and nodes are killed, judged from outside the nodes.

    tests/real/outside.py build/release/mneme [--seed N] [--keep FILE]

python3-redis's RedisCluster, `redis-cli -c` and `redis-benchmark --cluster` work at once. An operator splits, moves and
hands over shards, kills nodes and ends them with SIGTERM, in an order drawn from the seed. Then what the clients were
told is judged: by `mneme check`, by counting, and by reading everything back from every node. In the end mistakes are
planted in the history, and each must be found.

redis-benchmark ends itself when it reads that a connection is lost, and on an error that is neither MOVED nor
CLUSTERDOWN; when it is writing as the connection is lost, it drops the connection without a word and waits for ever for
the answers that it will not get. So its runs must be flawless across splits, moves and hand-overs; one during which a
node was stopped may also end with the errors in BENCHMARK_MAY_SAY, or not at all.
"""

import argparse
import itertools
import logging
import os
import random
import re
import select
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from cluster import read_back
from harness import require
from history import OPERATIONS, History, is_done, is_open, linearizable, lost_writes, recording, wrong_counters
from shards import Operator

SHARDS = 8
WORKERS = 5
CLI_SESSIONS = 2
PATIENCE = 20  # seconds that any one thing may take
STUCK_AFTER = 4  # seconds after a node was stopped, redis-benchmark is given up

CONTENDED, APPENDED, COUNTER, ONCE = "contended:", "appended:", "counter:", "once:"
KINDS = {"set": 3, "get": 6, "delete": 1, "append": 2, "length": 1, "incr": 3, "once": 4}  # how often
BENCHMARK_MAY_SAY = re.compile(
    r"Error: (Server closed the connection|Connection reset by peer|Broken pipe)"
    r"|Could not connect to Redis at \S+ Connection refused"
    r"|Could not connect to server \S+"
    r"|Error from server( \S+)?: (CLUSTERDOWN|UNCERTAIN) .*"
)


class Background(threading.Thread):
    """Repeats step() until it is told to end; what goes wrong is shown by the main thread."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ending = threading.Event()
        self.crash = None

    def run(self):
        try:
            while not self.ending.is_set():
                self.step()
            self.close()
        except Exception as error:
            self.crash = error

    def close(self):
        pass

    def ended(self):
        self.ending.set()
        self.join(60)
        require(not self.is_alive(), f"{type(self).__name__} ends")
        if self.crash:
            raise self.crash


class Worker(Background):
    """A RedisCluster client: a few keys that all workers fight for, and many of its own that are written once."""

    def __init__(self, number, seed, nodes, history):
        super().__init__()
        self.number = number
        self.random = random.Random(f"{seed}:{number}")
        self.nodes = nodes
        self.history = history
        self.client = None
        self.values = itertools.count(1)
        self.calls = 0
        self.errors = {}  # what the application gets to see, by class

    def connect(self):
        import redis
        from redis.cluster import ClusterNode, RedisCluster

        for node in self.random.sample(self.nodes, len(self.nodes)):
            try:
                return RedisCluster(
                    startup_nodes=[ClusterNode("127.0.0.1", n.port) for n in self.nodes],
                    url=f"redis://127.0.0.1:{node.port}",
                    connection_class=recording(self.history, self.number),
                    read_from_replicas=self.number % 2 == 1,
                    socket_timeout=5,
                )
            except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
                self.note(error)
        return None

    def note(self, error):
        name = type(error).__name__
        if "cluster support disabled" in str(error) or "Cluster mode is not enabled" in str(error):
            self.history.strange.append(f"{name}: {error}")
        self.errors[name] = self.errors.get(name, 0) + 1

    def step(self):
        import redis

        if self.client is None:
            self.client = self.connect()
            if self.client is None:
                time.sleep(0.1)
                return
        try:
            self.calls += 1
            self.ask(self.client)
        except redis.ResponseError as error:
            self.note(error)
        except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
            self.note(error)
            self.client = None  # as an application does that has lost its cluster
        time.sleep(0.002)

    def ask(self, client):
        value = f"{self.number}.{next(self.values)}"
        key = CONTENDED + str(self.random.randrange(4))
        kind = self.random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "set":
            client.set(key, value)
        elif kind == "get":
            client.get(key)
        elif kind == "delete":
            client.delete(key)
        elif kind == "append":
            client.append(APPENDED + str(self.random.randrange(2)), value + ";")
        elif kind == "length":
            client.get(APPENDED + str(self.random.randrange(2)))
        elif kind == "incr":
            client.incr(COUNTER + str(self.random.randrange(3)))
        else:
            client.set(f"{ONCE}{value}", value)


class Cli(Background):
    """A `redis-cli -c` session that counts up a key of its own.

    It connects again when a connection is lost and sends the same command again, so each lost connection may hide one
    INCR more; nothing but a stopped node makes it lose one.
    """

    LOST = ("Could not connect to Redis", "Error: Server closed the connection", "Error: Connection reset by peer")

    def __init__(self, number, port):
        super().__init__()
        self.key = f"cli:{number}"
        self.process = subprocess.Popen(
            ["redis-cli", "-c", "-p", str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        harness.adopt(self.process)
        self.buffer = b""
        self.last = 0
        self.acknowledged = self.unknown = self.refused = self.redirected = self.asked = 0

    def line(self):
        while b"\n" not in self.buffer:
            require(select.select([self.process.stdout], [], [], PATIENCE)[0], f"redis-cli answers: {self.buffer}")
            got = os.read(self.process.stdout.fileno(), 65536)
            require(got, f"redis-cli goes on: {self.buffer}")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def say(self, words):
        self.process.stdin.write(words.encode() + b"\n")
        self.process.stdin.flush()

    def exchange(self, words):
        """The lines that come of a command; an ECHO shows where they end, and is said again where that gets lost."""
        self.asked += 1
        end = f"end-{self.asked}"
        self.say(words)
        self.say(f"ECHO {end}")
        lines = []
        while (line := self.line()) != end:
            lines.append(line)
            if line.startswith(self.LOST):
                time.sleep(0.1)
                self.say(f"ECHO {end}")
        return lines

    def step(self):
        if self.asked % 50 == 0:
            self.exchange("CLUSTER NODES")  # who has seen the map is told MOVED from then on
        for line in self.exchange(f"INCR {self.key}"):
            self.take(line)
        time.sleep(0.005)

    def take(self, line):
        if line.isdigit():
            require(int(line) > self.last, f"{self.key} counts up: {line} after {self.last}")
            self.last = int(line)
            self.acknowledged += 1
        elif line.startswith("-> Redirected"):
            self.redirected += 1
        elif line.startswith("UNCERTAIN"):
            self.unknown += 1
        elif line.startswith(("CLUSTERDOWN", "LOADING", *self.LOST)):
            self.refused += 1
        else:  # ECHO said again may have been heard twice
            require(line == "" or line.startswith("end-"), f"redis-cli shows {line!r}")

    def close(self):
        self.process.stdin.close()
        require(self.process.wait(PATIENCE) == 0, "redis-cli ends with success")


class Benchmark(Background):
    """`redis-benchmark --cluster`, run after run, begun while all nodes are up."""

    def __init__(self, cluster, operations):
        super().__init__()
        self.cluster = cluster
        self.operations = operations
        self.flawless = self.through_changes = self.stopped = self.stuck = 0

    def step(self):
        self.ending.wait(0.2)
        before = self.operations.seen()
        if before.down:
            return
        text, code = self.benchmark(self.cluster.nodes[0].port)
        after = self.operations.seen()
        errors = [line for line in text.splitlines() if "rror" in line or "Could not" in line or "Invalid" in line]
        rates = dict(re.findall(r'"(SET|GET)","([0-9.]+)"', text))
        if code == 0 and not errors and set(rates) == {"SET", "GET"}:
            self.flawless += 1
            self.through_changes += before.stops == after.stops and before.changes != after.changes
            return
        if "Invalid cluster: 1 node(s)" in text:
            return  # one node leads everything, and that is no cluster to redis-benchmark
        require(before.stops != after.stops, f"redis-benchmark: exit code {code}, and no node was stopped: {text}")
        for line in errors:
            require(BENCHMARK_MAY_SAY.fullmatch(line.strip()), f"redis-benchmark says {line!r}: {text}")
        self.stopped += code is not None
        self.stuck += code is None

    def benchmark(self, port):
        """What it printed and its exit code, or None when it does not end."""
        options = ["-t", "set,get", "-n", "10000", "-c", "12", "-r", "1000", "--csv"]
        process = subprocess.Popen(
            ["redis-benchmark", "--cluster", "-p", str(port), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        harness.adopt(process)
        begun = time.monotonic()
        stops, stopped_at = self.operations.stops, None
        while time.monotonic() - begun < PATIENCE:
            try:
                return process.communicate(timeout=0.2)[0], process.returncode
            except subprocess.TimeoutExpired:
                pass
            if self.operations.stops != stops:
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() - stopped_at > STUCK_AFTER:
                    break
        process.kill()
        return process.communicate()[0], None


class Seen:
    def __init__(self, changes, stops, down):
        self.changes, self.stops, self.down = changes, stops, down


class Operations:
    """What the operator does, and what of it is done already."""

    def __init__(self, binary, cluster, chance):
        self.binary = binary
        self.cluster = cluster
        self.chance = chance
        self.changes = self.stops = 0
        self.down = False

    def seen(self):
        return Seen(self.changes, self.stops, self.down)

    def operator(self):
        return Operator(self.binary, self.chance.choice([n for n in self.cluster.nodes if n.alive()]).port)

    def shard(self):
        shards = self.operator().status()["shards"]
        return self.chance.choice([s for s in shards if s["group"] != 1])

    def change(self, *words):
        answer = self.operator().json(*words, "--wait", f"{PATIENCE}s")
        require(answer["outcome"] == "done", f"{' '.join(words)}: {answer}")
        self.changes += 1

    def split(self):
        self.change("split", str(self.shard()["group"]))

    def transfer(self, heir=None):
        shard = self.shard()
        if shard["leader"] == heir:
            return
        heir = heir or self.chance.choice([n.id for n in self.cluster.nodes if n.id != shard["leader"]])
        self.change("transfer", str(shard["group"]), f"n{heir}")

    def move(self):
        """With as many copies as nodes a replica can move only where one was removed before."""
        group = str(self.shard()["group"])
        source, target = self.chance.sample([n.id for n in self.cluster.nodes], 2)
        self.change("remove", f"n{target}", "--shard", group)
        self.change("move", group, f"n{source}", f"n{target}")
        self.change("add", group, f"n{source}")

    def stop(self, fn):
        victim = self.chance.choice(self.cluster.nodes)
        print(f"  node {victim.id}", flush=True)
        self.stops += 1
        self.down = True
        fn(victim)
        self.wait_led({0, victim.id})
        time.sleep(0.5)
        victim.start()
        victim.wait_ready(PATIENCE)
        self.wait_led({0})
        harness.wait_until(lambda: self.operator().status()["wrong"] == [], PATIENCE, "nothing is wrong any more")
        self.down = False
        self.transfer(victim.id)  # who leads nothing is none of the masters that cluster clients look for

    def wait_led(self, by_nobody):
        def led():
            done = self.operator().run("status", "--json")
            status = harness.as_json(done.stdout)
            return status and all(s["leader"] not in by_nobody for s in status["shards"])

        harness.wait_until(led, PATIENCE, "all shards are led")

    def kill(self):
        self.stop(lambda victim: victim.kill())

    def terminate(self):
        self.stop(lambda victim: require(victim.terminate(PATIENCE) == 0, f"SIGTERM ends it: {victim.output()}"))

    def run(self):
        steps = [self.split] * 3 + [self.move] * 3 + [self.transfer] * 4 + [self.kill] * 2 + [self.terminate]
        self.chance.shuffle(steps)
        for step in steps:
            print(step.__name__, flush=True)
            step()
            time.sleep(0.3)


def read_all(history, nodes):
    """The last word on every key, by a client of its own, from the leaders."""
    reader = Worker(WORKERS, 0, nodes, history)
    reader.number = WORKERS + 1 - (WORKERS + 1) % 2  # an even number reads from leaders
    client = harness.wait_until(reader.connect, PATIENCE, "a client connects")
    for key in sorted({o["key"] for o in history.operations}):
        client.get(key)
    return client


def whole_keyspace(client, nodes, keys):
    """What concerns all keys, asked as RedisCluster asks it, and of each node: any node answers for all shards."""
    import redis

    everything = {k.decode() for k in client.keys()}
    require(keys <= everything, f"KEYS has all keys: {sorted(keys - everything)[:5]} are missing")
    require(client.dbsize() == len(everything), f"DBSIZE is {client.dbsize()} of {len(everything)} keys")
    scanned = {k.decode() for k in client.scan_iter(count=1000)}
    require(scanned == everything, f"scan_iter has {len(scanned)} of {len(everything)} keys")
    for node in nodes:
        plain = redis.Redis(host="127.0.0.1", port=node.port)
        require(plain.dbsize() == len(everything), f"node {node.id}: DBSIZE is {plain.dbsize()} of {len(everything)}")
        scanned = [k.decode() for k in plain.scan_iter(count=1000)]
        require(sorted(scanned) == sorted(everything), f"node {node.id}: SCAN has each of {len(everything)} keys once")
    client.flushall()
    require(client.dbsize() == 0 and client.keys() == [], "FLUSHALL of every master leaves nothing")
    return len(everything)


def judge(binary, path, operations):
    """What is wrong with a history, as each of the judges sees it: a sentence or more, or nothing."""
    sound, words = linearizable(binary, path, operations)
    return {
        "mneme check": [] if sound else [words],
        "the count of INCRs": wrong_counters(operations, COUNTER),
        "the list of SETs": lost_writes(operations, ONCE),
    }


def judged(binary, path, history):
    kinds = {o["op"] for o in history.operations if is_done(o)}
    require(kinds == set(OPERATIONS.values()), f"every kind of operation was recorded: {kinds}")
    require(history.strange == [], f"errors that no client should get: {history.strange[:5]}")
    begun = time.monotonic()
    for name, found in judge(binary, path, history.operations).items():
        require(found == [], f"{name}: {found[:5]}")
    print(f"judged in {time.monotonic() - begun:.2f} s", flush=True)


class Planted:
    """Mistakes in a history, each of which must change a verdict. Only the key's own operations are judged again."""

    def __init__(self, binary, path, operations):
        self.binary, self.path, self.operations = binary, path, operations

    def last(self, op, prefix, fits=lambda o: True):
        mine = (o for o in self.operations if o["op"] == op and o["key"].startswith(prefix) and is_done(o))
        return max(filter(fits, mine), key=lambda o: o["return"])

    def of_key(self, operation):
        return [o for o in self.operations if o["key"] == operation["key"]]

    def dropped(self, operation):
        """It was acknowledged, and never was."""
        rest = [o for o in self.of_key(operation) if o is not operation]
        require(not linearizable(self.binary, self.path, rest)[0], f"mneme check misses nothing without {operation}")

    def read_as(self, operation, result, judge, prefix):
        rest = [{**o, "result": result} if o is operation else o for o in self.of_key(operation)]
        require(judge(rest, prefix) != [], f"{judge.__name__} accepts {result} as the result of {operation}")

    def all_found(self):
        shown = {o.get("result") for o in self.operations if o["op"] == "get"}
        self.dropped(self.last("set", ONCE))
        self.dropped(self.last("set", CONTENDED, lambda o: o["value"] in shown))
        self.dropped(self.last("append", APPENDED))
        self.read_as(self.last("get", ONCE), None, lost_writes, ONCE)
        counted = self.last("get", COUNTER)
        unknown = sum(o["op"] == "incr" and is_open(o) for o in self.of_key(counted))
        for wrong in (-unknown - 1, unknown + 1):
            self.read_as(counted, str(int(counted["result"]) + wrong), wrong_counters, COUNTER)


def keep_redis_py_quiet():
    """It logs every redirection with a stack trace, and its destructors complain when it failed to copy a client."""
    import redis.cluster

    logging.disable(logging.CRITICAL)
    hook = sys.unraisablehook
    sys.unraisablehook = lambda u: None if u.object is redis.cluster.ClusterNode.__del__ else hook(u)


def missing_tools():
    missing = [name for name in ("redis-cli", "redis-benchmark") if not shutil.which(name)]
    if missing:
        return f"{' and '.join(missing)} not found (apt install redis-tools)"
    try:
        from redis.cluster import RedisCluster  # noqa: F401
    except ImportError:
        return "python3-redis 4.1 or later not found (apt install python3-redis)"
    return None


def test(binary, arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="leave the history here")
    options = parser.parse_args(arguments)
    if missing := missing_tools():
        return missing
    keep_redis_py_quiet()
    directory = harness.temporary_directory()
    cluster = harness.Cluster(binary, directory, shards=SHARDS)
    cluster.start()
    operations = Operations(binary, cluster, random.Random(options.seed))
    operations.operator().json("init", "--wait", f"{PATIENCE}s")
    operations.operator().json("copies", "2")  # so that a replica may be removed before it is moved
    history = History()
    begun = time.monotonic()
    workers = [Worker(i, options.seed, cluster.nodes, history) for i in range(WORKERS)]
    sessions = [Cli(i, cluster.nodes[i % 3].port) for i in range(CLI_SESSIONS)]
    benchmark = Benchmark(cluster, operations)
    for one in (*workers, *sessions, benchmark):
        one.start()
    operations.run()
    for one in (*workers, *sessions, benchmark):
        one.ended()
    print(f"clients worked for {time.monotonic() - begun:.1f} s", flush=True)

    client = read_all(history, cluster.nodes)
    path = os.path.join(directory, "history.jsonl")
    judged(binary, options.keep or path, history)
    Planted(binary, path, history.operations).all_found()
    report(history, workers, sessions, benchmark, operations)
    for session in sessions:
        value = int(client.get(session.key))
        most = session.acknowledged + session.unknown + operations.stops
        require(session.acknowledged <= value <= most, f"{session.key} is {value}, of {session.acknowledged} to {most}")
    sets = [o for o in history.operations if o["op"] == "set" and o["key"].startswith(ONCE) and is_done(o)]
    written = [(0, o["key"], o["value"]) for o in sets]
    for node in cluster.nodes:
        read_back(node, written)
    count = whole_keyspace(client, cluster.nodes, {key for _, key, _ in written})
    print(f"{len(written)} acknowledged SETs read back from every node; {count} keys by KEYS, DBSIZE and SCAN")
    for node in cluster.nodes:
        require(node.terminate() == 0, f"SIGTERM ends node {node.id}: {node.output()}")


def report(history, workers, sessions, benchmark, operations):
    done = sum(map(is_done, history.operations))
    unknown = sum(map(is_open, history.operations))
    errors = {}
    for worker in workers:
        for name, count in worker.errors.items():
            errors[name] = errors.get(name, 0) + count
    print(
        f"RedisCluster: {sum(w.calls for w in workers)} calls, {done} operations done, {unknown} unknown, "
        f"{len(history.operations) - done - unknown} refused; errors {errors}"
    )
    for s in sessions:
        print(
            f"redis-cli -c: {s.acknowledged} acknowledged, {s.unknown} unknown, {s.refused} refused, "
            f"{s.redirected} redirected"
        )
    print(
        f"redis-benchmark: {benchmark.flawless} runs without an error, {benchmark.through_changes} of them while "
        f"shards changed; {benchmark.stopped} ended by a stopped node, {benchmark.stuck} stuck after one"
    )
    require(done > 1000 and all(s.acknowledged > 100 for s in sessions), "the clients got on")
    require(sum(s.redirected for s in sessions) > 0, "redis-cli followed MOVED")
    require(benchmark.through_changes > 0, "redis-benchmark ran while shards changed")


if __name__ == "__main__":
    harness.main(test, 150)
