"""Fixed exchanges for differential.py: each on a connection of its own, most until the server closes it."""

import harness
from harness import request, require


def words(text):
    return [harness.as_bytes(w) for w in text.split()]


# Commands that the two treat differently between MULTI and EXEC; a dialogue each below.
NOT_IN_MULTI = {b"scan", b"hello", b"client", b"select", b"auth"}

# Differences allowed in the dialogues only: (name, reason, which commands, which pairs of replies).
NEWER = {b"client|setinfo", b"client|no-touch"}
OURS_ONLY = {b"cas", b"range", b"session|open", b"session|resume", b"session|seq", b"mneme.setnum", b"mneme.gettyped",
             b"mneme.status", b"mneme.map", b"mneme.split", b"mneme.transfer"}
NOT_HERE = {
    b"lpush", b"hset", b"sadd", b"zadd", b"incrbyfloat", b"setbit", b"getbit", b"publish", b"subscribe", b"eval", b"watch",
    b"unwatch", b"wait", b"object", b"dump", b"lastsave", b"save", b"bgsave", b"debug", b"move", b"swapdb",
}  # fmt: skip


def _name(command):
    containers = (b"client", b"session")
    first = command[0].lower()
    return first + b"|" + command[1].lower() if first in containers and len(command) > 1 else first


ALLOWED = [
    (
        "cross slot",
        "a transaction is one entry of one group: its keys must hash to one slot; Redis outside of cluster mode takes any",
        lambda c: c[-1:] == [b"{other}slot"] or c[-1:] == [b"{other}value"],
        lambda c, ours, theirs: ours.startswith(b"-CROSSSLOT ") and theirs == b"+QUEUED\r\n",
    ),
    (
        "cross slot EXEC",
        "what follows from the refusal above",
        lambda c: c == [b"exec", b"crossed"],
        lambda c, ours, theirs: ours.startswith(b"-EXECABORT ") and theirs[:1] == b"*",
    ),
    (
        "newer",
        "commands of Redis 7.2, which current clients send; Debian's is 7.0",
        lambda c: _name(c) in NEWER,
        lambda c, ours, theirs: ours == b"+OK\r\n" and theirs.startswith(b"-ERR unknown subcommand"),
    ),
    (
        "ours",
        "our own commands",
        lambda c: _name(c) in OURS_ONLY,
        lambda c, ours, theirs: ours[:1] != b"-" and theirs.startswith(b"-ERR unknown command"),
    ),
    (
        "not here",
        "commands that this store does not have say so, or what to use instead",
        lambda c: _name(c) in NOT_HERE,
        lambda c, ours, theirs: ours.startswith((b"-ERR unknown command", b"-ERR there are no ")),
    ),
    (
        "connection in MULTI",
        "SCAN's cursors, HELLO and CLIENT REPLY belong to the connection, a transaction to the replicas: refused when queued",
        lambda c: c[0] in (b"scan", b"hello"),
        lambda c, ours, theirs: ours.startswith(b"-ERR Command not allowed inside a transaction"),
    ),
    (
        "after refusal",
        "what follows from the refusal above",
        lambda c: c == [b"exec", b"refused"],
        lambda c, ours, theirs: ours.startswith(b"-EXECABORT ") and theirs[:1] == b"*",
    ),
]


def raw(*pieces):
    """Bytes sent as they are; everything both servers say until they close is compared."""
    return ("raw", pieces)


def talk(*lines):
    """Commands one by one; a line may end in "# label", which ALLOWED sees in place of the arguments."""
    return ("talk", lines)


DIALOGUES = [
    # Inline commands, and how their lines end.
    raw(b"PING\r\n", b"ping\n", b"  ECHO   a  \r\n", b"\r\n", b"   \r\n", b'ECHO "a b\\x41\\n\\"" \r\n', b"ECHO 'it\\'s'\r\n", b"QUIT\r\n"),
    raw(b'ECHO "open\r\n', b"PING\r\n"),
    raw(b"ECHO 'a'b\r\n"),
    raw(b'SET "" ""\r\nGET ""\r\nGET\r\nQUIT extra\r\nPING\r\n'),
    raw(b"E", b"CHO", b" ab", b"c\r", b"\n*1\r", b"\n$4\r\nQU", b"IT\r", b"\n"),
    raw(b"A" * 70_000),
    raw(b"nonsense \"a\\r\\nb\" c\r\nQUIT\r\n"),
    raw(request(b"x" * 300, b"y" * 300), request(b"x", *[b"arg"] * 60), request("QUIT")),
    # Malformed requests: the sentence, then the end.
    raw(b"*1\r\n:5\r\n"),
    raw(b"*1\r\n$-5\r\nPING\r\n"),
    raw(b"*1\r\n$x\r\n"),
    raw(b"*x\r\n"),
    raw(b"*99999999999999999999\r\n"),
    raw(b"*2147483648\r\n"),
    raw(b"*-1\r\n*0\r\n*-5\r\n", request("PING"), request("QUIT")),
    raw(b"*1\r\n$99999999999\r\n"),
    raw(b"*1\r\n$4\nPING\r\n", request("QUIT")),
    raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n+b\r\n"),
    raw(b"*1\r\n$" + b"1" * 70_000),
    raw(b"*" + b"1" * 70_000),
    raw(request("PING"), b"*1\r\n$4\r\nQUIT\r\n", request("PING")),
    # Connections.
    talk("RESET", "HELLO 3", "GET nothing", "RESET", "GET nothing"),
    talk("HELLO", "HELLO 2", "HELLO 5", "HELLO abc", "HELLO 3 SETNAME me", "CLIENT GETNAME", "HELLO 3 SETNAME", "HELLO 3 AUTH x"),
    talk("SELECT 0", "SELECT 1", "SELECT -1", "SELECT x", "AUTH x", "AUTH", "AUTH a b c d"),
    talk("CLIENT", "CLIENT nonsense", "CLIENT ID x", "CLIENT SETNAME a", "CLIENT GETNAME", "CLIENT ID", "CLIENT LIST", "CLIENT INFO"),
    talk("CLIENT SETINFO lib-name x", "CLIENT NO-TOUCH on", "CLIENT NO-EVICT on", "CLIENT REPLY ON", "CLIENT KILL 1.2.3.4:5"),
    raw(request("CLIENT", "REPLY", "OFF"), request("PING"), request("CLIENT", "REPLY", "ON"), request("CLIENT", "REPLY", "SKIP"),
        request("PING"), request("ECHO", "x"), request("QUIT")),
    talk("CONFIG", "CONFIG GET", "CONFIG GET maxmemory", "CONFIG GET nothing", "CONFIG SET maxmemory 0", "CONFIG SET nothing x",
         "CONFIG SET a", "CONFIG RESETSTAT", "CONFIG nonsense"),
    talk("COMMAND COUNT", "COMMAND INFO get", "COMMAND INFO nothing", "COMMAND GETKEYS get a", "COMMAND GETKEYS mset a 1 b 2",
         "COMMAND GETKEYS ping", "COMMAND GETKEYS nonsense x", "COMMAND nonsense", "COMMAND LIST", "COMMAND DOCS get", "INFO", "TIME"),
    # Errors repeat what was sent, line ends and all.
    raw(request("CONFIG", "SET", "a\r\n%b", "c"), request("HELLO", "3", "x\r\n=5"), request("COMMAND", "a\nb"), request("CLIENT", "a\r\n:b"),
        request("EXPIRE", "k", "1", "a\r\n$b"), request("a\r\n$b", "c\r\nd"), request("HELLO", "a\nb"), request("QUIT")),
    # Transactions.
    talk("MULTI", "SET a 1", "INCR a", "GET a", "EXEC", "EXEC", "DISCARD", "MULTI", "MULTI", "DISCARD", "MULTI", "EXEC"),
    talk("MULTI", "SET a", "SET a 5", "EXEC", "GET a", "MULTI", "nonsense", "PING", "EXEC", "MULTI", "EXEC x", "EXEC", "GET a"),
    talk("SET a x", "MULTI", "INCR a", "SET a 1", "INCR a", "EXEC", "GET a"),
    talk("MULTI", "SET {a}1 x", "PING", "ECHO hi", "GET {a}1", "SELECT 0", "CLIENT GETNAME", "EXEC"),
    talk("MULTI", "SET a 1", "GET {other}slot", "EXEC # crossed", "GET a # later"),
    talk("MULTI", "SCAN 0", "EXEC # refused"),
    talk("MULTI", "HELLO", "EXEC # refused"),
    raw(request("MULTI"), request("SET", "a", "1"), request("QUIT"), request("EXEC")),
    talk("MULTI", "RESET", "EXEC"),
    # What only one of the two has.
    talk("SET a 1", "CAS a 1 2", "RANGE a b LIMIT 1", "SESSION OPEN", "MNEME.SETNUM n 5", "MNEME.GETTYPED n", "DEL a"),
    talk(*[name.decode() + " a b" for name in sorted(NOT_HERE) if name not in (b"subscribe", b"debug", b"wait")]),
]  # fmt: skip


def run(connect):
    for kind, pieces in DIALOGUES:
        pair = connect()
        pair.one("FLUSHALL")
        if kind == "raw":
            import time

            for piece in pieces:
                try:
                    pair.ours.send(piece)
                except harness.Closed:
                    pass
                try:
                    pair.theirs.send(piece)
                except harness.Closed:
                    pass
                time.sleep(0.01)
            import socket

            for connection in (pair.ours, pair.theirs):
                try:
                    connection.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
            ours, theirs = pair.ours.rest(), pair.theirs.rest()
            pair.judge([b"raw"] + [p[:200] for p in pieces], ours, theirs)
        else:
            for line in pieces:
                text, _, label = line.partition("#")
                command = words(text)
                pair.send(request(*command))
                if label.strip() in ("crossed", "refused"):
                    ours, theirs = pair.ours.reply()[0], pair.theirs.reply()[0]
                    pair.judge([command[0].lower(), harness.as_bytes(label.strip())], ours, theirs)
                    pair.queued = None
                elif label:
                    pair.ours.reply(), pair.theirs.reply()
                else:
                    pair.compare(command)
        pair.close()
    return len(DIALOGUES)
