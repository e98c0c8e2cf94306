"""What the tests of real nodes share: starting and stopping processes, ports, raw RESP, the end of a test.

Everything is on loopback, in a temporary directory that goes at the end, and every wait has a bound. Only processes
started here are stopped, by their id.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SKIPPED = 77  # ctest: SKIP_RETURN_CODE
FIRST_SHARD = 2  # group 1 holds the shard map

_processes = []
_directories = []
_clean_up_from = os.getpid()


class Failed(Exception):
    pass


class Closed(Exception):
    """The other end closed the connection."""


def require(condition, sentence):
    if not condition:
        raise Failed(sentence)


@atexit.register
def _clean_up():
    if os.getpid() != _clean_up_from:
        return
    for process in _processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    for path in _directories:
        shutil.rmtree(path, ignore_errors=True)


def temporary_directory():
    path = tempfile.mkdtemp(prefix="mneme-real-")
    _directories.append(path)
    return path


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    sockets = []
    for _ in range(count):
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        sockets.append(s)
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_until(condition, seconds, what):
    """Polls until condition() is true and returns what it answered."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        require(time.monotonic() < end, f"waited {seconds} s in vain until {what}")
        time.sleep(0.01)


def start(command, log):
    """Starts a process whose output goes to the file `log`."""
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    return adopt(process)


def adopt(process):
    """Sees to it that the process does not outlive the test."""
    _processes.append(process)
    return process


def as_json(text):
    """None for what is none, as the output of a command that failed."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def run(command, seconds=60, **options):
    """Runs a command to its end; output captured as text."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, **options)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Connection:
    """A client that shows replies as the bytes they are."""

    def __init__(self, port, seconds=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.at = 0

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed()

    def _fill(self):
        if self.at:
            del self.buffer[: self.at]
            self.at = 0
        try:
            got = self.socket.recv(1 << 18)
        except ConnectionResetError:
            raise Closed()
        if not got:
            raise Closed()
        self.buffer += got

    def _line(self):
        begin = 0
        while True:
            end = self.buffer.find(b"\r\n", self.at + begin)
            if end >= 0:
                line = bytes(self.buffer[self.at : end + 2])
                self.at = end + 2
                return line
            begin = max(len(self.buffer) - self.at - 1, 0)
            self._fill()

    def _exactly(self, size):
        while len(self.buffer) - self.at < size:
            self._fill()
        data = bytes(self.buffer[self.at : self.at + size])
        self.at += size
        return data

    def reply(self):
        """One reply as (raw bytes, elements); elements is a list of the same for aggregates, else None."""
        line = self._line()
        kind = line[:1]
        if kind in b"$=!":
            size = int(line[1:-2])
            return (line if size < 0 else line + self._exactly(size + 2)), None
        if kind in b"*%~>|":
            count = int(line[1:-2])
            if count < 0:
                return line, None
            parts = [self.reply() for _ in range(count * 2 if kind in b"%|" else count)]
            return line + b"".join(raw for raw, _ in parts), parts
        require(kind in b"+-:_,#(", f"a reply begins with {line[:40]!r}")
        return line, None

    def ask(self, *args):
        """Sends one command and returns the raw reply."""
        self.send(request(*args))
        return self.reply()[0]

    def rest(self):
        """All bytes until the other end closes."""
        try:
            while True:
                self._fill()
        except Closed:
            return bytes(self.buffer[self.at :])


def as_bytes(word):
    return word if isinstance(word, bytes) else str(word).encode()


def request(*args):
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        arg = as_bytes(arg)
        out.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(out)


def bulk(raw):
    """The content of a bulk string's raw bytes; None for a null."""
    if raw in (b"$-1\r\n", b"_\r\n"):
        return None
    require(raw[:1] == b"$", f"a bulk string was expected, not {raw[:200]!r}")
    return raw[raw.index(b"\r\n") + 2 : -2]


class Node:
    """One mneme process with its data directory."""

    def __init__(self, binary, directory, id=1, port=None, cluster=None, join=None, flags=(), wrapper=()):
        self.id = id
        self.port = port or free_ports(1)[0]
        self.data = os.path.join(directory, f"n{id}")
        self.log = os.path.join(directory, f"n{id}.log")
        self.wrapper = list(wrapper)
        self.command = [binary, "node", "--data", self.data]
        self.command += ["--join", join] if join else ["--id", str(id)]
        self.command += ["--cluster", cluster] if cluster else ["--listen", f"127.0.0.1:{self.port}"]
        self.command += list(flags)
        self.process = None

    def start(self):
        self.process = start(self.wrapper + self.command, self.log)

    def started(self, seconds=20):
        """Starts and waits until it serves."""
        self.start()
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=20):
        def ready():
            require(self.process.poll() is None, f"node {self.id} ended with {self.process.poll()}: {self.output()}")
            try:
                connection = Connection(self.port, 2)
                answer = connection.ask("DBSIZE")
                connection.close()
                return answer.startswith(b":")
            except (OSError, Closed):
                return False

        wait_until(ready, seconds, f"node {self.id} serves")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def output(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-3000:]

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    def terminate(self, seconds=20):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def info(self, section="consensus"):
        """INFO as a dictionary; empty when the node cannot be reached."""
        try:
            connection = Connection(self.port, 2)
            text = bulk(connection.ask("INFO", section)).decode()
            connection.close()
        except (OSError, Closed):
            return {}
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    def groups(self):
        """What INFO says of this node's replicas, by group: {1: {"role": "leader", ...}, ...}."""
        return {
            int(name[len("group") :]): dict(pair.split("=") for pair in text.split(","))
            for name, text in self.info().items()
            if name.startswith("group") and name[len("group") :].isdigit()
        }

    def resident_kib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0


class Cluster:
    """Nodes 1 to n with one --cluster list. By default with one shard, so that one node leads all data, and nothing that
    changes this by itself."""

    def __init__(self, binary, directory, count=3, shards=1, flags=(), wrapper=lambda id: ()):
        flags = ["--shards", str(shards), "--no-balance", *flags]
        ports = free_ports(count)
        self.list = ",".join(f"{i + 1}=127.0.0.1:{port}" for i, port in enumerate(ports))
        self.nodes = [
            Node(binary, directory, i + 1, port, self.list, flags=flags, wrapper=wrapper(i + 1))
            for i, port in enumerate(ports)
        ]

    def start(self):
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_ready(30)

    def leader(self, seconds=30, group=FIRST_SHARD):
        """The node that itself says it leads the group and that a majority names."""

        def find():
            told = {n.id: n.groups().get(group, {}) for n in self.nodes if n.alive()}
            for n in self.nodes:
                if told.get(n.id, {}).get("role") != "leader":
                    continue
                if sum(t.get("leader") == str(n.id) for t in told.values()) * 2 > len(self.nodes):
                    return n
            return None

        return wait_until(find, seconds, f"the nodes agree on a leader of group {group}")


def main(test, seconds):
    """Runs test(binary, arguments) with a bound on its time, and exits as ctest wants it."""
    if len(sys.argv) < 2:
        print(f"usage: {sys.argv[0]} MNEME [...]", file=sys.stderr)
        sys.exit(2)

    def out_of_time(*_):
        raise Failed(f"the test took more than {seconds} s")

    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(seconds)
    try:
        skipped = test(os.path.abspath(sys.argv[1]), sys.argv[2:])
    except Failed as failure:
        print(f"FAILED: {failure}", flush=True)
        sys.exit(1)
    if skipped:
        print(f"skipped: {skipped}", flush=True)
        sys.exit(SKIPPED)
    print("ok", flush=True)
