#!/usr/bin/python3
"""Nodes that cannot or must not start say why in one sentence, with the exit code of their kind.

    tests/real/starting.py build/release/mneme
"""

import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Cluster, Connection, Node, require

USAGE, UNAVAILABLE, IO, CONFIGURATION = 2, 69, 74, 78


def refused(command, code, *words, environment=None):
    """The command ends soon with `code` and one sentence that has all the words."""
    env = dict(os.environ, **(environment or {}))
    try:
        done = harness.run(command, 20, env=env)
    except subprocess.TimeoutExpired:
        raise harness.Failed(f"{' '.join(command[1:])}: was not refused")
    what = " ".join(command[1:])
    sentences = [line for line in done.stderr.splitlines() if line.startswith("mneme: ")]
    require(done.returncode == code, f"{what}: exit code {done.returncode} instead of {code}; {done.stderr}")
    require(len(sentences) == 1, f"{what}: one sentence is wanted, not {done.stderr!r}")
    require(done.stdout == "", f"{what}: nothing is wanted on stdout, not {done.stdout!r}")
    for word in words:
        require(word in sentences[0], f"{what}: {word!r} is missing in {sentences[0]!r}")
    print(f"  {code}  {sentences[0]}", flush=True)


def flags(binary, directory):
    data = ["--data", directory + "/never"]
    node = [binary, "node"] + data
    refused(node + ["--nonsense"], USAGE, "--nonsense")
    refused(node + ["--id", "x"], USAGE, "--id")
    refused(node + ["--id", "0"], USAGE, "--id")
    refused(node + ["--id", "-1"], USAGE, "--id")
    refused(node + ["--listen", "nowhere"], USAGE, "--listen")
    refused(node + ["--listen", "127.0.0.1:70000"], USAGE, "--listen")
    refused(node + ["--cluster", "1=127.0.0.1:1,1=127.0.0.1:2"], USAGE, "twice")
    refused(node + ["--cluster", "one=127.0.0.1:1"], USAGE, "--cluster")
    refused(node + ["--cluster", "1=127.0.0.1"], USAGE, "--cluster")
    refused(node + ["--cluster", "1=127.0.0.1:1,,2=127.0.0.1:2"], USAGE, "--cluster")
    refused(node + ["--id", "4", "--cluster", "1=127.0.0.1:1,2=127.0.0.1:2"], USAGE, "does not name this node")
    refused(node + ["--cluster", "1=127.0.0.1:7001,2=127.0.0.1:7001"], USAGE, "127.0.0.1:7001")
    three = "1=127.0.0.1:1,2=127.0.0.1:2,3=127.0.0.1:3"
    refused(node + ["--cluster", three], USAGE, "--id is needed at the first start")
    refused(node + ["--cluster", three, "--join", "127.0.0.1:4"], USAGE, "say one of them")
    refused(node + ["--cluster", three, "--id", "1", "--copies", "4"], USAGE, "3 founding nodes cannot hold 4 copies")
    refused(node + ["--copies", "2"], USAGE, "1 founding node cannot hold 2 copies")
    refused(node + ["--join", "127.0.0.1:4", "--id", "4"], USAGE, "leave out --id")
    refused(node + ["--join", "127.0.0.1:4", "--shards", "4"], USAGE, "--shards and --copies")
    refused(node + ["--join", "127.0.0.1"], USAGE, "--join")
    refused(node + ["--shards", "0"], USAGE, "--shards")
    refused(node + ["--shards", "16385"], USAGE, "--shards")
    refused(node + ["--lease", "1001"], USAGE, "--lease 1001 is longer than --election-timeout 1000")
    refused(node + ["--lease", "250"], USAGE, "--lease 250 lasts 200.000 ms", "make it longer")
    refused(node + ["--lease", "1000", "--max-drift", "850000"], USAGE, "--max-drift 850000 ppm")
    refused(node + ["--lease", "1000", "--max-drift", "0"], USAGE, "--max-drift")
    refused(node + ["--max-drift", "1000"], USAGE, "say --lease MS too")
    refused(node + ["--rack", "r1"], USAGE, "--rack")
    refused(node + ["--join", "127.0.0.1:4", "--rack", "r 1"], USAGE, "--rack")
    refused(node + ["--lost-after", "soon"], USAGE, "--lost-after")
    refused(node + ["--lost-after", "1s"], USAGE, "--lost-after")
    refused(node + ["--io", "magic"], USAGE, "--io")
    refused(node + ["--heartbeat", "900"], USAGE, "--heartbeat")
    refused(node + ["--election-timeout", "1"], USAGE, "--election-timeout")
    refused(node + ["--max-memory", "-5"], USAGE, "--max-memory")
    refused(node + ["stray"], USAGE, "stray")
    refused(node, USAGE, "--id", environment={"MNEME_ID": "x"})
    refused(node + ["--config", directory + "/missing.toml"], USAGE, "missing.toml")
    refused([binary], USAGE)
    refused([binary, "nod"], USAGE)
    require(not os.path.exists(directory + "/never"), "a refused command line leaves no data directory")
    bad = directory + "/bad.toml"
    with open(bad, "w") as f:
        f.write('id = 1\nlisten = "127.0.0.1:0"\nnonsense = 5\n')
    refused(node + ["--config", bad], USAGE, "bad.toml:3", "nonsense")
    with open(bad, "w") as f:
        f.write("id = [\n")
    refused(node + ["--config", bad], USAGE, "bad.toml")
    with open(bad, "w") as f:
        f.write("id = 0\n")
    refused(node + ["--config", bad], USAGE, "id")


def config_file(binary, directory):
    """A file gives what the command line does not."""
    port, other = harness.free_ports(2)
    path = directory + "/node.toml"
    with open(path, "w") as f:
        f.write(f'listen = "127.0.0.1:{port}"\nid = 7\nmax-memory = 5\n')
    node = Node(binary, directory, 7, port)
    node.command = [binary, "node", "--config", path, "--data", node.data]
    node.started()
    require(node.info().get("node_id") == "7", "the id is the file's")
    require(node.info("memory").get("maxmemory") == str(5 << 20), "so is the bound on memory")
    require(node.terminate() == 0, "SIGTERM ends it with exit code 0")
    node.command += ["--listen", f"127.0.0.1:{other}"]
    node.port = other
    node.started()
    require(node.terminate() == 0, "SIGTERM ends it with exit code 0")


def places(binary, directory):
    node = Node(binary, directory).started()
    connection = Connection(node.port)
    require(connection.ask("SET", "k", "v") == b"+OK\r\n", "SET is answered")
    port = harness.free_ports(1)[0]
    own = [binary, "node", "--id", "1", "--data", node.data]
    refused(own + ["--listen", f"127.0.0.1:{port}"], UNAVAILABLE, "in use")
    refused([binary, "node", "--data", directory + "/other", "--listen", f"127.0.0.1:{node.port}"], UNAVAILABLE, str(node.port), "in use")
    refused([binary, "node", "--data", directory + "/other", "--listen", "192.0.2.1:6399"], CONFIGURATION, "192.0.2.1")
    require(connection.ask("GET", "k") == b"$1\r\nv\r\n", "the node in place is not disturbed")
    require(node.terminate() == 0, "SIGTERM ends it with exit code 0")
    refused([binary, "node", "--id", "2", "--data", node.data, "--listen", f"127.0.0.1:{port}"], CONFIGURATION, "belongs to node 1")
    refused(
        own + ["--cluster", f"1=127.0.0.1:{port},2=127.0.0.1:{port + 1},3=127.0.0.1:{port + 2}"], CONFIGURATION, "--cluster"
    )
    file = directory + "/file"
    open(file, "w").close()
    refused([binary, "node", "--data", file, "--listen", f"127.0.0.1:{port}"], CONFIGURATION, file)
    refused([binary, "node", "--data", directory + "/no/such/place", "--listen", f"127.0.0.1:{port}"], CONFIGURATION, "/no/such")

    # Damage: the file is named, and nothing is changed.
    with open(node.data + "/identity", "r+b") as f:
        whole = f.read()
        f.seek(20)
        f.write(b"\xff\xff")
    refused(own + ["--listen", f"127.0.0.1:{port}"], IO, "identity")
    with open(node.data + "/identity", "wb") as f:
        f.write(whole)
    os.rename(node.data + "/identity", node.data + "/elsewhere")
    refused(own + ["--listen", f"127.0.0.1:{port}"], IO, "identity")
    os.rename(node.data + "/elsewhere", node.data + "/identity")
    os.rename(node.data + "/wal", node.data + "/elsewhere")
    refused(own + ["--listen", f"127.0.0.1:{port}"], IO, "wal")
    os.rename(node.data + "/elsewhere", node.data + "/wal")
    node.started()
    connection = Connection(node.port)
    require(connection.ask("GET", "k") == b"$1\r\nv\r\n", "what was written is there after all refusals")
    node.kill()


def wiped(binary, directory):
    cluster = Cluster(binary, directory)
    cluster.start()
    leader = cluster.leader()
    connection = Connection(leader.port)
    for i in range(50):
        require(connection.ask("SET", f"before{i}", i) == b"+OK\r\n", "SET is answered")
    victim = next(n for n in cluster.nodes if n is not leader)
    require(victim.terminate() == 0, "SIGTERM ends a follower with exit code 0")
    shutil.rmtree(victim.data)
    refused(victim.command, CONFIGURATION, str(victim.id))
    for i in range(50):
        require(connection.ask("SET", f"after{i}", i) == b"+OK\r\n", "the cluster goes on without the wiped node")
        require(connection.ask("GET", f"before{i}") == b"$%d\r\n%d\r\n" % (len(str(i)), i), "and has lost nothing")
    third = next(n for n in cluster.nodes if n is not leader and n is not victim)
    require(leader.alive() and third.alive(), "the other two live")

    # A stranger: a node of another cluster that is told to belong to this one.
    stranger = Node(binary, directory + "/elsewhere", victim.id, victim.port, cluster.list)
    os.mkdir(directory + "/elsewhere")
    alone = Node(binary, directory + "/elsewhere", victim.id, victim.port)
    alone.started()
    require(alone.terminate() == 0, "SIGTERM ends it with exit code 0")
    refused(stranger.command, CONFIGURATION)
    require(connection.ask("GET", "after1") == b"$1\r\n1\r\n", "the cluster goes on")


def test(binary, arguments):
    directory = harness.temporary_directory()
    for part in (flags, config_file, places, wiped):
        here = os.path.join(directory, part.__name__)
        os.mkdir(here)
        print(part.__name__, flush=True)
        part(binary, here)


if __name__ == "__main__":
    harness.main(test, 120)
