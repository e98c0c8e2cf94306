"""One node, every acknowledged write synced, against Redis that does the same."""
import os

from common import Workspace, ask, compare, free_ports, mneme_bench, redis_benchmark, start_node

# command, connections, pipelined, ratio wanted, requests of one turn
LINES = [("set", 1, 1, 1.2, 12_000), ("set", 50, 1, 1.4, 120_000), ("set", 256, 1, 1.1, 150_000),
         ("set", 1000, 1, 1.0, 150_000), ("set", 50, 16, 2.0, 500_000), ("get", 1, 1, 1.0, 25_000),
         ("get", 50, 1, 1.0, 200_000), ("get", 256, 1, 1.0, 200_000), ("get", 1000, 1, 1.0, 200_000)]
KEYS = 100_000


def measure(report, flags):
    with Workspace() as space:
        ours, theirs = free_ports(2)
        os.mkdir(os.path.join(space.path, "redis"))
        start_node(space, "mneme", ours)
        space.start("redis", ["redis-server", "--port", str(theirs), "--bind", "127.0.0.1", "--appendonly", "yes",
                              "--appendfsync", "always", "--save", "", "--dir", os.path.join(space.path, "redis"),
                              "--loglevel", "warning"])
        for port in (ours, theirs):
            space.wait_until(f"a server on port {port}", lambda: ask(port, "SET", "ready", "1").startswith("+OK"))
            redis_benchmark(port, "set", 50, 300_000, pipeline=16, keys=KEYS)  # the same keys on both sides
        for test, connections, pipeline, target, requests in LINES:
            name = f"{test.upper()} {connections}" + (f" pipelined {pipeline}" if pipeline > 1 else "")
            if flags.only not in name:
                continue

            def load(port):
                return lambda part: redis_benchmark(port, test, connections,
                                                    max(int(requests * flags.scale * part), connections), pipeline, KEYS)
            compare(report, "single", name, target, load(ours), load(theirs), flags.turns, "redis")
        fairness(report, flags, theirs)


def fairness(report, flags, port):
    """Both generators on the same Redis, so that what ours says of our nodes can be believed."""
    for test, connections in (("set", 50), ("get", 50), ("get", 256)):
        name = f"{test.upper()} {connections} on redis"
        if flags.only in name:
            requests = int(150_000 * flags.scale)
            compare(report, "single", name, None, lambda part: mneme_bench(port, test, connections, int(requests * part), keys=KEYS),
                    lambda part: redis_benchmark(port, test, connections, int(requests * part), keys=KEYS), flags.turns,
                    "redis-benchmark")
