"""1,000 times set and get through the log, synced, against a bare hash map in the client's own memory.

The system that inspired this project was 480 times slower than the map, in memory and without a network.
"""
import json
import os
import statistics

from cluster import start_cluster
from common import BUILD, Figure, Workspace, ask, free_port, redis_benchmark, run, start_node


def measure(report, flags):
    maps = [json.loads(run([os.path.join(BUILD, "tests", "bench", "bench_hashmap")])[0])["ns"] for _ in range(flags.turns)]
    bare = statistics.median(maps)
    for nodes in (1, 3):
        with Workspace() as space:
            if nodes == 1:
                port = free_port()
                start_node(space, "mneme", port)
                space.wait_until("the node", lambda: ask(port, "SET", "ready", "1").startswith("+OK"))
            else:
                port = start_cluster(space)
            redis_benchmark(port, "set", 50, 50_000, keys=1000)
            for connections in (1, 256):
                requests = 10_000 if connections == 1 else 150_000
                took = []
                for _ in range(flags.turns):
                    took.append(sum(1e9 * 1000 / redis_benchmark(port, test, connections, int(requests * flags.scale),
                                                                 keys=1000).rate for test in ("set", "get")))
                report.add(Figure("hashmap", f"{nodes} node{'s' if nodes > 1 else ''}, {connections} clients", "x slower",
                                  statistics.median(took) / bare,
                                  details={"1,000 set+get ms": statistics.median(took) / 1e6, "map us": bare / 1000}))
