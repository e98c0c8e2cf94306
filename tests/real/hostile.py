#!/usr/bin/python3
"""Clients that send garbage, announce too much, never read, or come and go: the node stays up, small and correct.

    tests/real/hostile.py build/release/mneme
"""

import os
import random
import resource
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Closed, Cluster, Connection, Node, bulk, request, require

MIB = 1 << 20


class Guard:
    """What must hold after every attack: the node lives, serves, has lost nothing and is still small."""

    def __init__(self, node):
        self.node = node
        connection = Connection(node.port)
        for i in range(200):
            require(connection.ask("SET", f"kept{i}", f"value{i}") == b"+OK\r\n", "SET is answered")
        connection.close()
        self.base = node.resident_kib()

    def check(self, what, mib=64):
        require(self.node.alive(), f"after {what} the node is alive: {self.node.output()}")
        connection = Connection(self.node.port, 10)
        for i in range(0, 200, 7):
            require(bulk(connection.ask("GET", f"kept{i}")) == b"value%d" % i, f"after {what} nothing is lost")
        require(connection.ask("SET", "probe", what) == b"+OK\r\n", f"after {what} the node takes writes")
        connection.close()
        grown = (self.node.resident_kib() - self.base) / 1024
        require(grown < mib, f"after {what} the node takes {grown:.0f} MiB more than at first")
        print(f"  {what}: {grown:+.1f} MiB", flush=True)


def answer_to(port, data, end=True, seconds=5):
    """What the node says to these bytes until it closes, None when it keeps the connection open."""
    connection = Connection(port, seconds)
    try:
        connection.send(data)
        if end:
            connection.socket.shutdown(socket.SHUT_WR)
        return connection.rest()
    except (Closed, ConnectionResetError, BrokenPipeError):
        return b""
    except OSError as error:
        if isinstance(error, TimeoutError):
            return None
        return b""
    finally:
        connection.close()


def frame(body):
    return struct.pack(">I", len(body)) + body


def malformed_resp(guard):
    port = guard.node.port
    must_close = [
        b"*1\r\n:1\r\n", b"*x\r\n", b"*1\r\n$-7\r\n", b"*1\r\n$99999999999999\r\n", b"*99999999\r\n", b"*1\r\n$5\r\nabcdefg\r\n",
        b"*1\r\n$" + b"9" * 100_000, b"*" + b"9" * 100_000, b"a" * 100_000, b'"' + b"x" * 100, b"*2147483648\r\n",
        b"*65536\r\n" + b"$1\r\na\r\n" * 10 + b"nonsense\r\n", b"*2\r\n$3\r\nGET\r\n$-1\r\n",
    ]  # fmt: skip
    for data in must_close:
        data = data if data.startswith(b"*") or len(data) > 1000 else data + b"\r\n"
        said = answer_to(port, data, end=False)
        require(said is not None, f"the node closes after {data[:60]!r}")
        require(said.startswith(b"-ERR "), f"the node says why before it closes after {data[:60]!r}: {said[:80]!r}")
    whole = request("SET", "truncated", "x" * 1000)
    for cut in range(1, len(whole) - 1, 37):
        require(answer_to(port, whole[:cut]) == b"", "a truncated command is not answered")
    connection = Connection(port)
    require(bulk(connection.ask("GET", "truncated")) is None, "a truncated command is not executed")
    guard.check("malformed RESP")


def mutated_resp(guard):
    r = random.Random(7)
    whole = b"".join(
        request(*w)
        for w in (["GET", "a"], ["SET", "a", "b" * 50], ["MULTI"], ["INCR", "n"], ["EXEC"], ["HELLO", "3"], ["MGET", "a", "b"])
    )
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(r.randrange(1, 6)):
            at = r.randrange(len(data))
            how = r.randrange(3)
            if how == 0:
                data[at] = r.randrange(256)
            elif how == 1:
                del data[at : at + r.randrange(1, 9)]
            else:
                data[at:at] = r.randbytes(r.randrange(1, 9))
        require(answer_to(guard.node.port, bytes(data)) is not None, f"the node answers and closes after {bytes(data)!r}")
    guard.check("mutated RESP")


def malformed_sexps(guard):
    port = guard.node.port
    good = frame(b"((Set (String s) (Num 1)) (Get (String s)))")
    require(answer_to(port, good)[4:] == b"((Save Committed) (Got (String s) (Num 1)))", "S-expressions are served")
    bodies = [
        b"", b"(", b")", b"((", b"(Get)", b"((Get))", b"((Get (String)))", b"((Get (Num 99999999999)))", b"((Get (Num x)))",
        b"((Get (String a) (String b)))", b"((Set (String a)))", b"((Fly (String a)))", b"atom", b'((Get (String "open)))',
        b"(" * 100_000, b"(" * 1000 + b")" * 1000, b"((Get (String a))) trailing", b"\x00\xff\xfe",
        b"((Set (String k) (String " + b"v" * (9 * MIB) + b")))",
    ]  # fmt: skip
    for body in bodies:
        connection = Connection(port, 10)
        connection.send(frame(body) + good)
        head = connection._exactly(4)
        said = connection._exactly(struct.unpack(">I", head)[0])
        require(said.startswith(b"((Error"), f"the S-expression {body[:60]!r} is refused: {said[:100]!r}")
        said = connection._exactly(struct.unpack(">I", connection._exactly(4))[0])
        require(said.startswith(b"((Save"), "and the next frame of the connection is served")
        connection.close()
    # Announced and not sent; a length whose first byte is not 0 is not a S-expression's.
    require(answer_to(port, b"\x00\xff\xff\xff((Get") == b"", "a truncated frame is not answered")
    said = answer_to(port, good + b"\x7f\xff\xff\xff((Get", end=False)
    require(said is not None and b"(Error" in said, "an oversized frame is refused and the connection closed")
    connections = []
    for _ in range(100):
        connection = Connection(port)
        connection.send(b"\x00\xff\xff\xff((Get")
        connections.append(connection)
    guard.check("malformed S-expressions")
    for connection in connections:
        connection.close()


def not_for_us(guard):
    port = guard.node.port
    r = random.Random(3)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + r.randbytes(32) + b"\x20" + r.randbytes(32)
    require(answer_to(port, hello, end=False) == b"", "a TLS hello is met by a close")
    require(answer_to(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") is not None, "HTTP is answered or closed")
    for size in (1, 5, 63, 64, 65, 1000, 100_000):
        require(answer_to(port, b"\xd7" + r.randbytes(size)) is not None, "peer garbage is met by a close")
        require(answer_to(port, b"\xd7mneme" + r.randbytes(size)) is not None, "peer garbage is met by a close")
        require(answer_to(port, b"\xd7mneme\x01\x00\x01\x00\x01" + bytes(5) + r.randbytes(size)) is not None, "likewise")
    for _ in range(200):
        require(answer_to(port, r.randbytes(r.randrange(1, 300))) is not None, "noise is met by a close")
    guard.check("TLS, HTTP, peer garbage and noise")


def announced_and_not_sent(guard):
    connections = []
    for i in range(200):
        connection = Connection(guard.node.port)
        connection.send([b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$12000000\r\n", b"*65536\r\n", b"*65536\r\n$12000000\r\nxx"][i % 3])
        connections.append(connection)
    time.sleep(0.3)
    guard.check("200 huge announcements")
    for connection in connections:
        connection.close()


def never_reads(guard, node=None, connections=6, big=4 * MIB, mib=700):
    """Asks for far more than it ever reads."""
    node = node or guard.node
    writer = Connection(node.port, 30)
    for i in range(3):
        require(writer.ask("SET", f"big{i}", os.urandom(big)) == b"+OK\r\n", "a large SET is answered")
    before = node.resident_kib()
    idle = []
    asks = [
        request("GET", "big0") * 1000,
        request("MGET", "big0", "big1", "big2") * 300,
        (request("GET", "big1") + request("SET", "small", "x")) * 500,
    ]
    for i in range(connections):
        s = socket.create_connection(("127.0.0.1", node.port))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.settimeout(1)
        try:
            s.sendall(asks[i % len(asks)])
        except OSError:
            pass
        idle.append(s)
    peak = 0
    for _ in range(30):
        time.sleep(0.1)
        require(node.alive(), f"the node lives: {node.output()}")
        peak = max(peak, (node.resident_kib() - before) / 1024)
        require(peak < mib, f"a client that never reads makes the node grow by {peak:.0f} MiB")
    probe = Connection(node.port, 5)
    require(probe.ask("SET", "probe", "x") == b"+OK\r\n", "others are served meanwhile")
    for s in idle:
        s.close()
    for i in range(3):
        writer.ask("DEL", f"big{i}")
    writer.close()
    print(f"  {connections} clients that never read: at most {peak:.0f} MiB more", flush=True)


def many_idle(guard):
    sockets = []
    for _ in range(2000):
        sockets.append(socket.create_connection(("127.0.0.1", guard.node.port)))
    guard.check("2,000 connections that say nothing", 200)
    for i, s in enumerate(sockets):
        if i % 4 == 0:
            s.sendall(request("PING"))
    for i, s in enumerate(sockets):
        if i % 4 == 0:
            s.settimeout(10)
            require(s.recv(100) == b"+PONG\r\n", "an idle connection is served when it speaks")
    guard.check("500 of them having spoken", 200)
    for s in sockets:
        s.close()
    connection = Connection(guard.node.port)

    def few():
        return b"connected_clients:1\r\n" in connection.ask("INFO", "clients")

    harness.wait_until(few, 10, "the connections are forgotten")


def come_and_go(guard):
    r = random.Random(5)
    for _ in range(2000):
        s = socket.create_connection(("127.0.0.1", guard.node.port))
        how = r.randrange(5)
        if how > 0:
            s.sendall(request("SET", "gone", "x" * r.randrange(2000)) * r.randrange(1, 5))
        if how == 1:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        elif how == 2:
            s.recv(10)
        elif how == 3:
            s.shutdown(socket.SHUT_WR)
        s.close()
    guard.check("2,000 connections that came and went")


def too_many_clients(binary, directory):
    node = Node(binary, directory, flags=["--max-clients", "10"]).started()
    time.sleep(0.2)
    connections = []
    for _ in range(10):
        connection = Connection(node.port)
        require(connection.ask("PING") == b"+PONG\r\n", "as many clients as allowed are served")
        connections.append(connection)
    said = answer_to(node.port, request("PING"), end=False)
    require(said == b"-ERR max number of clients reached\r\n", f"one more is sent away, not {said!r}")
    connections.pop().close()
    harness.wait_until(lambda: answer_to(node.port, request("PING")) == b"+PONG\r\n", 5, "a place is free again")
    require(node.terminate() == 0, "SIGTERM ends it")


def little_memory(binary, directory):
    node = Node(binary, directory, flags=["--max-memory", "8"]).started()
    connection = Connection(node.port)
    refused = 0
    for i in range(40):
        answer = connection.ask("SET", f"k{i}", "x" * MIB)
        require(answer == b"+OK\r\n" or answer.startswith(b"-OOM "), f"SET answers {answer!r}")
        refused += answer != b"+OK\r\n"
    require(25 < refused < 40, f"{refused} of 40 were refused")
    require(bulk(connection.ask("GET", "k0")) == b"x" * MIB, "reads go on")
    require(connection.ask("DEL", "k0") == b":1\r\n" and connection.ask("SET", "a", "b") == b"+OK\r\n", "after DEL there is room")
    require(node.terminate() == 0, "SIGTERM ends it")


def large_replies_through_a_follower(binary, directory):
    cluster = Cluster(binary, directory)
    cluster.start()
    leader = cluster.leader()
    follower = next(n for n in cluster.nodes if n is not leader)
    connection = Connection(follower.port, 30)
    values = [os.urandom(8 * MIB - i) for i in range(4)]
    for i, value in enumerate(values):
        require(connection.ask("SET", f"large{i}", value) == b"+OK\r\n", "an 8 MiB SET is answered")
    for _ in range(2):
        connection.send(request("MGET", *[f"large{i}" for i in range(4)]))
        raw, parts = connection.reply()
        require(parts and [bulk(p) for p, _ in parts] == values, f"MGET of 32 MiB is right: {raw[:80]!r}")
    connection.send(b"".join(request("GET", f"large{i % 4}") for i in range(16)))
    for i in range(16):
        require(bulk(connection.reply()[0]) == values[i % 4], "pipelined GETs of 8 MiB are right")
    answer = connection.ask("MGET", *[f"large{i % 4}" for i in range(10)])
    require(answer == b"-ERR reply exceeds maximum allowed size, ask for less at once\r\n", f"80 MiB at once: {answer[:80]!r}")
    connection.send(request("MULTI") + request("GET", "{large}0") * 2 + request("EXEC"))
    for _ in range(4):
        connection.reply()
    never_reads(None, follower, connections=3)
    require(all(n.alive() for n in cluster.nodes), "all nodes live")
    require(cluster.leader() is leader, "and nobody had to be elected")
    for node in cluster.nodes:
        require(node.terminate() == 0, "SIGTERM ends it")


def test(binary, arguments):
    directory = harness.temporary_directory()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 4500:
        return f"a process may have no more than {most} open files here"
    resource.setrlimit(resource.RLIMIT_NOFILE, (4500, most))
    guard = Guard(Node(binary, directory).started())
    for attack in (malformed_resp, mutated_resp, malformed_sexps, not_for_us, announced_and_not_sent, many_idle, come_and_go, never_reads):
        attack(guard)
    guard.check("everything", 700)
    guard.node.kill()
    guard.node.started()
    connection = Connection(guard.node.port)
    for i in range(200):
        require(bulk(connection.ask("GET", f"kept{i}")) == b"value%d" % i, "nothing is lost after a kill either")
    require(guard.node.terminate() == 0, "SIGTERM ends it")
    for part in (too_many_clients, little_memory, large_replies_through_a_follower):
        here = os.path.join(directory, part.__name__)
        os.mkdir(here)
        print(f"  {part.__name__}", flush=True)
        part(binary, here)


if __name__ == "__main__":
    harness.main(test, 150)
