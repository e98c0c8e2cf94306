#!/usr/bin/python3
"""mneme bench against a real node, and against servers that answer badly: its JSON, its counts, its exit codes.

    tests/real/bench.py build/release/mneme
"""

import binascii
import json
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
from harness import Connection, Node, require

USAGE, UNAVAILABLE = 2, 69
KEYS = 50


def bench(binary, port, *flags, code=0):
    done = harness.run([binary, "bench", "-p", str(port), *flags], 60)
    require(done.returncode == code, f"bench {flags}: exit code {done.returncode} instead of {code}: {done.stderr}")
    return done


def measured(binary, port, *flags, code=0):
    out = bench(binary, port, "--json", *flags, code=code).stdout
    require(out.endswith("}\n") and out.count("\n") == 1, f"one JSON object is wanted on stdout, not {out!r}")
    return json.loads(out)


def sensible(result):
    latency = result["latency_ns"]
    ladder = [latency[name] for name in ("p50", "p90", "p99", "p99.9", "max")]
    require(0 < ladder[0] and ladder == sorted(ladder), f"quantiles ascend: {latency}")
    require(sum(count for _, _, count in result["histogram_ns"]) == result["replies"], "each reply is in the histogram")
    require(all(begin < end for begin, end, _ in result["histogram_ns"]), "buckets have a width")
    require(0 < result["generator_cpu"] <= 1.5, f"the generator's share of a core: {result['generator_cpu']}")


def counted(binary, node):
    result = measured(binary, node.port, "--requests", "3001", "--clients", "7", "--pipeline", "4", "--keys", str(KEYS))
    require(result["replies"] == 3001, f"as many as asked for: {result}")
    require(result["errors"] == {} and result["lost_connections"] == 0, f"nothing failed: {result}")
    require(result["clients"] == 7 and result["pipeline"] == 4 and result["mix"] == "set", f"the plan: {result}")
    sensible(result)
    connection = Connection(node.port)
    require(connection.ask("DBSIZE") == b":%d\r\n" % KEYS, "every key was written")
    require(connection.ask("GET", "key:000000000000") == b"$100\r\n" + b"x" * 100 + b"\r\n", "with its value")
    info = dict(line.split(":", 1) for line in harness.bulk(connection.ask("INFO", "stats")).decode().split() if ":" in line)
    require(int(info["total_commands_processed"]) >= 3001, "the node has counted them, too")


def timed(binary, node):
    result = measured(binary, node.port, "--for", "700ms", "--mix", "set:get=1:3", "--size", "10", "--keys", str(KEYS))
    require(0.7 <= result["seconds"] < 3, f"as long as asked for: {result['seconds']}")
    require(result["replies"] > 100, "and not idle")
    sensible(result)
    text = bench(binary, node.port, "--for", "200ms", "--mix", "get").stdout
    require("a second" in text and "p99.9" in text and "#" in text, f"for people: {text}")
    require(max(map(len, text.splitlines())) <= 100, "within 100 columns")


def refused(binary, node):
    for flags in (["--mix", "sing"], ["--for", "soon"], ["--for", "1s", "--requests", "1"], ["--clients", "0"],
                  ["--keys", "0"], ["--pipeline", "-1"], ["stray"], ["--nodes", "h:1"]):
        done = bench(binary, node.port, *flags, code=USAGE)
        require(done.stderr.startswith("mneme: ") and done.stderr.count("\n") == 1, f"one sentence: {done.stderr!r}")
    done = bench(binary, harness.free_ports(1)[0], code=UNAVAILABLE)
    require("cannot connect" in done.stderr, done.stderr)
    done = bench(binary, node.port, "--cluster", code=UNAVAILABLE)
    require("CLUSTER SLOTS" in done.stderr, done.stderr)


class Scripted:
    """A server that gives each connection's requests, told apart by their last line, to a function."""

    def __init__(self, answer):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answer = answer
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        buffer = b""
        with connection:
            while data := connection.recv(65536):
                buffer += data
                while (request := self._take(buffer)) is not None:
                    words, buffer = request
                    reply = self.answer(self, words)
                    if reply is None:
                        return
                    connection.sendall(reply)

    @staticmethod
    def _take(buffer):
        parts = buffer.split(b"\r\n")
        count = int(parts[0][1:] or 0) if parts[0] else 0
        if not count or len(parts) < 2 + 2 * count:
            return None
        words = parts[2 : 2 + 2 * count : 2]
        return words, b"\r\n".join(parts[1 + 2 * count :])


def badly(binary):
    def sometimes(server, words):
        return b"-TRYAGAIN later\r\n" if words[1].endswith(b"1") else b"$3\r\nabc\r\n"

    result = measured(binary, Scripted(sometimes).port, "--requests", "1000", "--clients", "2", "--mix", "get", "--keys", "10")
    require(0 < result["errors"]["TRYAGAIN"] < 300, f"errors are counted by their prefix: {result}")
    require(result["replies"] == 1000, "and are replies")

    result = measured(binary, Scripted(lambda *_: None).port, "--requests", "10", "--clients", "2", code=UNAVAILABLE)
    require(result["lost_connections"] == 2 and result["replies"] == 0, f"lost connections are told: {result}")


def to_owners(binary):
    """Two servers that each serve half of the slots and would redirect the rest."""
    seen = []

    def answer(server, words):
        if words[0] == b"CLUSTER":
            halves = [(0, 8191, first), (8192, 16383, second)]
            return b"*2\r\n" + b"".join(
                b"*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % (a, b, s.port) for a, b, s in halves)
        seen.append((server, words[1]))
        return b"+OK\r\n"

    first, second = Scripted(answer), Scripted(answer)
    result = measured(binary, first.port, "--cluster", "--requests", "500", "--clients", "4", "--keys", "100")
    require(result["replies"] == 500 and result["errors"] == {}, f"all were answered: {result}")
    require({server for server, _ in seen} == {first, second}, "both had something to do")
    for server, key in seen:
        slot = binascii.crc_hqx(key, 0) % 16384  # CRC16, as Redis has it
        require(server is (first if slot < 8192 else second), f"{key} of slot {slot} went to its owner")


def test(binary, _):
    badly(binary)
    to_owners(binary)
    node = Node(binary, harness.temporary_directory()).started()
    counted(binary, node)
    timed(binary, node)
    refused(binary, node)


harness.main(test, 200)
