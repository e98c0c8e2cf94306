#!/usr/bin/python3
"""redis-cli, redis-benchmark and python3-redis, unmodified, and mneme client, against one node and against a node that
does not lead.

    tests/real/clients.py build/release/mneme
"""

import os
import re
import shutil
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Cluster, Node, require


def cli(port, nodes):
    def ask(*words, text=None):
        import subprocess

        done = subprocess.run(
            ["redis-cli", "-p", str(port), *words], input=text, capture_output=True, text=True, timeout=20,
            stdin=None if text is not None else subprocess.DEVNULL,
        )  # fmt: skip
        require(done.returncode == 0, f"redis-cli {words}: {done.stdout} {done.stderr}")
        return done.stdout.rstrip("\n")

    require(ask("PING") == "PONG", "redis-cli PING")
    require(ask("SET", "city", "Oslo") == "OK" and ask("GET", "city") == "Oslo", "redis-cli SET and GET")
    require(ask("-3", "GET", "nothing") == "", "redis-cli in RESP3")
    require(ask("INCR", "n") == "1", "redis-cli INCR")
    require("\n".join(ask(text="SET a 1\nINCR a\nMULTI\nGET a\nEXEC\n").split()) == "OK\n2\nOK\nQUEUED\n2", "redis-cli reads stdin")
    require("group2:role=" in ask("INFO"), "redis-cli INFO")
    require("ERR unknown command" in ask("NONSENSE"), "redis-cli shows errors")
    ask("SET", "{scan}1", "x")
    require("{scan}1" in ask("--scan", "--pattern", "{scan}*").split("\n"), "redis-cli --scan")
    require(int(ask("DBSIZE")) >= 4, "redis-cli DBSIZE")
    piped = ask("--pipe", text="".join(f"*3\r\n$3\r\nSET\r\n$2\r\np{i}\r\n$1\r\n{i}\r\n" for i in range(10)))
    require("errors: 0, replies: 10" in piped, f"redis-cli --pipe: {piped}")


def benchmark(port, nodes):
    for extra in ([], ["-P", "16"], ["--threads", "2"], ["-r", "1000", "-d", "1000"], ["-3"]):
        done = harness.run(
            ["redis-benchmark", "-p", str(port), "-t", "set,get", "-n", "20000", "-c", "50", "--csv", *extra], 60
        )
        text = done.stdout + done.stderr
        require(done.returncode == 0 and "rror" not in text, f"redis-benchmark {extra}: {text}")
        rates = dict(re.findall(r'"(SET|GET)","([0-9.]+)"', text))
        require(set(rates) == {"SET", "GET"}, f"redis-benchmark {extra} shows rates: {text}")
        print(f"  redis-benchmark {' '.join(extra) or '-c 50'}: {rates['SET']} SET/s, {rates['GET']} GET/s", flush=True)


def python(port, nodes):
    import redis

    r = redis.Redis(host="127.0.0.1", port=port, decode_responses=True)
    require(r.ping(), "ping")
    r.flushall()
    require(r.set("a", 1) and r.get("a") == "1" and r.get("b") is None, "set and get")
    with r.pipeline() as pipe:  # MULTI and EXEC
        pipe.set("{p}1", "x").incr("{p}2").get("{p}1").expire("{p}1", 100)
        require(pipe.execute() == [True, 1, "x", True], "a pipeline with a transaction")
    with r.pipeline(transaction=False) as pipe:
        for i in range(500):
            pipe.set(f"k{i}", i)
        require(all(pipe.execute()), "a pipeline of 500")
    with r.pipeline(transaction=False) as pipe:
        for i in range(500):
            pipe.get(f"k{i}")
        require(pipe.execute() == [str(i) for i in range(500)], "what a pipeline reads back")
    require(sorted(r.scan_iter("k*", count=50)) == sorted(f"k{i}" for i in range(500)), "scan_iter")
    require(r.incr("n") == 1 and r.incrby("n", 41) == 42 and r.decr("n") == 41, "incr and decr")
    require(r.set("t", "x", px=80) and 0 < r.pttl("t") <= 80, "a time to live")
    time.sleep(0.2)
    require(r.get("t") is None and r.ttl("t") == -2, "is over")
    require(r.set("t", "x", ex=100, nx=True) and not r.set("t", "y", nx=True) and r.ttl("t") in (99, 100), "set with options")
    require(r.set("t", "y", get=True) == "x" and r.getdel("t") == "y", "set get, getdel")
    require(r.mset({"{m}1": 1, "{m}2": 2}) and r.mget("{m}1", "{m}2", "{m}3") == ["1", "2", None], "mset and mget")
    require(r.append("s", "abc") == 3 and r.getrange("s", 1, 1) == "b" and r.strlen("s") == 3, "append, getrange, strlen")
    require(r.type("s") == "string" and r.exists("s", "a", "nothing") == 2 and r.delete("s", "nothing") == 1, "type, exists, delete")
    keys = [redis.Redis(host="127.0.0.1", port=n.port).info("keyspace").get("db0", {}).get("keys", 0) for n in nodes]
    require(r.dbsize() == sum(keys), f"dbsize is what the leaders' INFO has together: {keys}")
    mode = "cluster" if len(nodes) > 1 else "standalone"
    require(r.info()["redis_mode"] == mode and r.config_get("maxmemory") == {"maxmemory": "0"}, "info and config_get")
    r.client_setname("me")
    require(r.client_id() > 0 and len(r.client_list()) >= 1, "client_list")
    try:
        r.execute_command("SET", "a")
        raise harness.Failed("a wrong number of arguments is accepted")
    except redis.ResponseError as error:
        require("wrong number of arguments" in str(error), "errors arrive")
    binary = bytes(range(256)) * 100
    raw = redis.Redis(host="127.0.0.1", port=port)
    require(raw.set(b"\x00\xff", binary) and raw.get(b"\x00\xff") == binary, "binary keys and values")


def own(binary, port):
    def ask(*words, exit=0, flags=()):
        done = harness.run([binary, "client", "-p", str(port), *flags, *words], 30)
        require(done.returncode == exit, f"mneme client {words}: exit {done.returncode}, {done.stdout} {done.stderr}")
        return (done.stdout if exit == 0 else done.stderr).rstrip("\n")

    require(ask("SET", "own", "Oslo") == "OK" and ask("GET", "own") == "Oslo", "mneme client sets and gets")
    require(ask("GET", "nothing") == "", "mneme client shows what is not there as an empty line")
    require(ask("DEL", "count") in ("0", "1"), "mneme client deletes")
    require(ask("INCR", "count", flags=["--session"]) == "1" and ask("INCR", "count") == "2", "mneme client counts")
    require(ask("MGET", "own", "count", "nothing") == "Oslo\n2", "mneme client shows lists")
    require("not an integer" in ask("INCR", "own", exit=1), "mneme client shows errors")
    require("about a connection" in ask("MULTI", exit=2), "mneme client refuses what needs a connection")
    require(ask("((Get (String own)))") == "((Got (String own) (String Oslo)))", "mneme client asks in S-expressions")
    require("write for instance" in ask("((Get", exit=2), "mneme client refuses what is no list")
    [closed] = harness.free_ports(1)
    done = harness.run([binary, "client", "-p", str(closed), "--timeout", "300", "SET", "own", "x"], 30)
    require(done.returncode == 69 and "not done" in done.stderr, f"no node is there: {done.stderr}")


def uncertain(binary):
    """A server that takes a write and hangs up: nobody knows what became of it, and it comes once."""
    server = socket.create_server(("127.0.0.1", 0))
    writes = []

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(4096):
                    if b"INCR" in data:
                        writes.append(data)
                        break
                    connection.sendall(b"-ERR This instance has cluster support disabled\r\n")

    threading.Thread(target=serve, daemon=True).start()
    port = server.getsockname()[1]
    done = harness.run([binary, "client", "-p", str(port), "--timeout", "1000", "INCR", "n"], 30)
    server.close()
    require(done.returncode == 1 and "unknown whether it was done" in done.stderr, f"a lost answer: {done.stderr}")
    require(len(writes) == 1, f"a write of unknown outcome was sent {len(writes)} times")


def test(binary, arguments):
    missing = [name for name in ("redis-cli", "redis-benchmark") if not shutil.which(name)]
    if missing:
        return f"{' and '.join(missing)} not found (apt install redis-tools)"
    try:
        import redis  # noqa: F401
    except ImportError:
        return "python3-redis not found (apt install python3-redis)"
    directory = harness.temporary_directory()
    node = Node(binary, directory, 1).started()
    print("one node", flush=True)
    for part in (cli, benchmark, python):
        part(node.port, [node])
    own(binary, node.port)
    uncertain(binary)
    require(node.terminate() == 0, "SIGTERM ends it")
    os.mkdir(directory + "/three")
    cluster = Cluster(binary, directory + "/three")
    cluster.start()
    leader = cluster.leader()
    follower = next(n for n in cluster.nodes if n is not leader)
    print("a follower of three", flush=True)
    for part in (cli, benchmark, python):
        part(follower.port, cluster.nodes)
    own(binary, follower.port)
    require(all(n.alive() for n in cluster.nodes), "all nodes live")


if __name__ == "__main__":
    harness.main(test, 150)
