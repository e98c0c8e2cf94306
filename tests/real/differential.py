#!/usr/bin/python3
"""Sends the same commands to a node and to Debian's redis-server, and compares the replies byte by byte.

    tests/real/differential.py build/release/mneme [--seed N] [--commands N] [--follower]

The commands are drawn from a seed: every command of the store, with right and wrong arguments, one by one and
pipelined, in transactions, in RESP2 and RESP3, and after them the fixed dialogues of dialogues.py. Every difference
that is allowed stands in ALLOWED, below, with its reason; any other one fails. --follower asks a node of three that does
not lead.
"""

import argparse
import random
import shutil
import sys
import time

sys.path.insert(0, __file__.rsplit("/", 1)[0])
import dialogues
import harness
from harness import Closed, Connection, Failed, request, require

TIMES = {b"ttl": 2, b"pttl": 2000, b"expiretime": 2, b"pexpiretime": 2000}
CONTENT = {b"info", b"client|info", b"client|list", b"client|id", b"time", b"memory|usage", b"command|docs"}


def integer(raw):
    return int(raw[1:-2]) if raw[:1] == b":" else None


def about_equal(words, ours, theirs):
    a, b = integer(ours), integer(theirs)
    return a is not None and b is not None and a > 0 and b > 0 and abs(a - b) <= TIMES[words[0]]


def same_kind(words, ours, theirs):
    return ours[:1] == theirs[:1] and ours[:1] != b"-"


def refused_in_cluster(words, ours, theirs):
    return ours == b"-ERR SELECT is not allowed in cluster mode\r\n" and theirs == b"-ERR DB index is out of range\r\n"


def hello_fields(words, ours, theirs):
    """All fields the same except the version, the connection's number, the mode and the role."""

    def mask(raw):
        lines = raw.split(b"\r\n")
        for name, offset in ((b"version", 2), (b"id", 1), (b"mode", 2), (b"role", 2)):
            at = lines.index(name) + offset
            if name == b"role" and lines[at] not in (b"master", b"replica"):
                raise ValueError
            if name == b"mode" and lines[at] not in (b"standalone", b"cluster"):
                raise ValueError
            lines[at] = b"x"
            if offset == 2:
                lines[at - 1] = b"x"
        return lines

    return ours[:1] in b"*%" and theirs[:1] in b"*%" and mask(ours) == mask(theirs)


def same_elements(words, ours, theirs):
    if ours[:1] not in b"*~":
        return False
    return sorted(ours.split(b"\r\n")) == sorted(theirs.split(b"\r\n"))


def name_of(words):
    """"client|id" of CLIENT ID, else the command's name."""
    containers = (b"client", b"config", b"command", b"memory", b"cluster", b"function", b"session")
    first = words[0].lower() if words else b""
    return first + b"|" + words[1].lower() if first in containers and len(words) > 1 else first


def named(*names):
    return lambda words: name_of(words) in names


# name, reason, which commands, which pairs of replies
ALLOWED = [
    ("times", "the two clocks are read at different moments", named(*TIMES), about_equal),
    ("content", "it describes the server, not the data: both answer, and with the same type", named(*CONTENT), same_kind),
    ("select", "a cluster refuses other databases in its own words", named(b"select"), refused_in_cluster),
    ("hello", "version, connection number, mode (of several nodes: cluster) and role (a node that does not lead says replica) are the server's own; the rest is equal", named(b"hello"), hello_fields),
    ("key order", "KEYS promises no order: ours is the keys' own, Redis's is its hash table's", named(b"keys"), same_elements),
    ("random key", "any key is a right answer", named(b"randomkey"), same_kind),
    (
        "command table",
        "COMMAND describes what each server has: other counts, and no ACL categories, tips or key specifications here",
        named(b"command", b"command|count", b"command|info", b"command|list"),
        same_kind,
    ),
]
ALLOWED += [
    (
        "key length",
        "keys are at most 65,535 bytes here, which is said before anything else that is wrong with a command",
        lambda words: any(len(w) > 65_535 for w in words),
        lambda words, ours, theirs: ours.startswith(b"-ERR key exceeds maximum allowed size"),
    ),
]
ALLOWED += dialogues.ALLOWED


class Different(Exception):
    """Enough differences were found."""


class Pair:
    """One connection to each server; whatever is sent goes to both."""

    def __init__(self, ours, theirs, counts, differences):
        self.ours = Connection(ours)
        self.theirs = Connection(theirs)
        self.counts, self.differences = counts, differences
        self.queued = None  # the commands of a transaction

    def close(self):
        self.ours.close()
        self.theirs.close()

    def send(self, data):
        self.ours.send(data)
        self.theirs.send(data)

    def compare(self, words):
        ours, our_parts = self.ours.reply()
        theirs, their_parts = self.theirs.reply()
        lower = [words[0].lower()] + words[1:]
        if lower[0] == b"exec" and self.queued is not None and our_parts is not None and their_parts is not None:
            require(len(our_parts) == len(their_parts) == len(self.queued), "EXEC answers as many replies as were queued")
            for command, (a, _), (b, _) in zip(self.queued, our_parts, their_parts):
                self.judge(command, a, b)
        else:
            self.judge(lower, ours, theirs)
        if lower[0] == b"multi" and ours == b"+OK\r\n":
            self.queued = []
        elif lower[0] in (b"exec", b"discard", b"reset"):
            self.queued = None
        elif self.queued is not None and ours == b"+QUEUED\r\n":
            self.queued.append(lower)
        return ours, theirs

    def judge(self, words, ours, theirs):
        if ours == theirs:
            return
        for name, _, which, how in ALLOWED:
            try:
                if which(words) and how(words, ours, theirs):
                    self.counts[name] = self.counts.get(name, 0) + 1
                    return
            except ValueError:
                pass
        self.differ(f"{shown(words)}\n  ours   {ours[:400]!r}\n  theirs {theirs[:400]!r}")

    def differ(self, what):
        """Goes on to find more, up to a dozen; the later ones may follow from the first."""
        self.differences.append(what)
        if len(self.differences) >= 12:
            raise Different()

    def one(self, *words):
        words = [harness.as_bytes(w) for w in words]
        self.send(request(*words))
        return self.compare(words)

    def many(self, commands):
        self.send(b"".join(request(*words) for words in commands))
        for words in commands:
            self.compare(words)


def shown(words):
    return " ".join(repr(w[:60] + b"..." if len(w) > 60 else w)[1:] for w in words)


class Generator:
    INTEGERS = [b"0", b"1", b"-1", b"10", b"3", b"-7", b"100", b"9223372036854775807", b"-9223372036854775808"]
    NOT_INTEGERS = [
        b"", b" 1", b"1 ", b"+1", b"01", b"-0", b"1.0", b"9223372036854775808", b"-9223372036854775809", b"1e3", b"0x10",
        b"nan", b"one", b"1\x00", b"--1", b"99999999999999999999999",
    ]  # fmt: skip
    WORDS = [b"nx", b"xx", b"get", b"keepttl", b"ex", b"px", b"exat", b"pxat", b"gt", b"lt", b"persist", b"foo", b"", b"count"]

    def __init__(self, seed):
        self.r = random.Random(seed)

    def key(self):
        r = self.r.random()
        if r < 0.9:
            return b"{t}%d" % self.r.randrange(12)
        return self.r.choice([b"{t}", b"{t}bin\x00\r\n\xff", b"{t}" + b"long" * 200])

    def value(self):
        r = self.r.random()
        if r < 0.3:
            return self.integer()
        if r < 0.4:
            return b""
        if r < 0.5:
            return self.r.randbytes(self.r.randrange(1, 64))
        if r < 0.52:
            return self.r.randbytes(self.r.choice([4095, 16384, 65536, 300_000]))
        return b"v%d" % self.r.randrange(1000)

    def integer(self):
        r = self.r.random()
        if r < 0.5:
            return b"%d" % self.r.randrange(-1000, 1000)
        return self.r.choice(self.INTEGERS if r < 0.8 else self.NOT_INTEGERS)

    def seconds(self):
        """Times to live that do not end during the test, or that are refused, or over at once."""
        r = self.r.random()
        if r < 0.7:
            return b"%d" % self.r.randrange(1000, 100_000)
        return self.r.choice(self.NOT_INTEGERS + [b"0", b"-1", b"-100", b"9223372036854775807", b"9223372036854775", b"-9223372036854775808"])

    def ms(self):
        r = self.r.random()
        return b"%d" % self.r.randrange(1_000_000, 100_000_000) if r < 0.7 else self.seconds_refused()

    def seconds_refused(self):
        return self.r.choice(self.NOT_INTEGERS + [b"0", b"-1", b"9223372036854775807", b"-9223372036854775808"])

    def at(self, unit):
        """Absolute times: far away, past, refused."""
        r = self.r.random()
        if r < 0.7:
            return b"%d" % ((int(time.time()) + self.r.randrange(10_000, 1_000_000)) * unit)
        return self.r.choice(self.NOT_INTEGERS + [b"0", b"-1", b"1", b"1000000000", b"9223372036854775807", b"-9223372036854775808"])

    def expiry_option(self):
        kind = self.r.choice([b"EX", b"px", b"EXAT", b"PXAT"])
        value = {b"EX": self.seconds, b"px": self.ms, b"EXAT": lambda: self.at(1), b"PXAT": lambda: self.at(1000)}[kind]()
        return [kind, value]

    def conditions(self):
        return [self.r.choice([b"NX", b"xx", b"GT", b"lt", b"no"]) for _ in range(self.r.choice([0, 0, 1, 1, 2]))]

    def set(self):
        words = [b"SET", self.key(), self.value()]
        for _ in range(self.r.choice([0, 0, 1, 1, 2, 3])):
            r = self.r.random()
            if r < 0.5:
                words.append(self.r.choice([b"NX", b"XX", b"GET", b"KEEPTTL", b"nx", b"Get"]))
            elif r < 0.9:
                words += self.expiry_option()
            else:
                words.append(self.r.choice(self.WORDS))
        return words

    def keys(self, limit):
        return [self.key() for _ in range(self.r.randrange(1, limit))]

    def pairs(self):
        return [w for _ in range(self.r.randrange(1, 5)) for w in (self.key(), self.value())]

    def command(self, may_spoil=True):
        r, k = self.r, self.key
        makers = [
            (12, self.set),
            (10, lambda: [b"GET", k()]),
            (2, lambda: [b"SETNX", k(), self.value()]),
            (2, lambda: [b"SETEX", k(), self.seconds(), self.value()]),
            (2, lambda: [b"PSETEX", k(), self.ms(), self.value()]),
            (3, lambda: [b"GETSET", k(), self.value()]),
            (3, lambda: [b"GETDEL", k()]),
            (3, lambda: [b"GETEX", k()] + r.choice([[], [b"PERSIST"], self.expiry_option(), [b"persist", b"ex", b"1000"]])),
            (4, lambda: [b"MGET"] + self.keys(6)),
            (3, lambda: [b"MSET"] + self.pairs()),
            (2, lambda: [b"MSETNX"] + self.pairs()),
            (4, lambda: [r.choice([b"DEL", b"UNLINK"])] + self.keys(4)),
            (3, lambda: [r.choice([b"EXISTS", b"TOUCH"])] + self.keys(5)),
            (5, lambda: [r.choice([b"INCR", b"DECR"]), k()]),
            (6, lambda: [r.choice([b"INCRBY", b"DECRBY"]), k(), self.integer()]),
            (4, lambda: [b"APPEND", k(), self.value()]),
            (3, lambda: [b"STRLEN", k()]),
            (4, lambda: [r.choice([b"GETRANGE", b"SUBSTR"]), k(), self.integer(), self.integer()]),
            (2, lambda: [b"SETRANGE", k(), r.choice([b"0", b"5", b"100", b"-1", b"x", b"8388609", b"9223372036854775807"]), self.value()]),
            (4, lambda: [b"EXPIRE", k(), self.seconds()] + self.conditions()),
            (4, lambda: [b"PEXPIRE", k(), self.ms()] + self.conditions()),
            (2, lambda: [b"EXPIREAT", k(), self.at(1)] + self.conditions()),
            (2, lambda: [b"PEXPIREAT", k(), self.at(1000)] + self.conditions()),
            (6, lambda: [r.choice([b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"]), k()]),
            (3, lambda: [b"PERSIST", k()]),
            (3, lambda: [b"TYPE", k()]),
            (2, lambda: [r.choice([b"RENAME", b"RENAMENX"]), k(), k()]),
            (2, lambda: [b"COPY", k(), k()] + r.choice([[], [b"REPLACE"], [b"DB", b"0"], [b"foo"], [b"db"]])),
            (1, lambda: [b"KEYS", r.choice([b"*", b"{t}[1-3]", b"{t}?", b"nothing", b"*[", b"{t}\\1*", b"[^{]*"])]),
            (0.3, lambda: [b"RANDOMKEY"]),
            (1, lambda: [b"PING"] + r.choice([[], [self.value()], [b"a", b"b"]])),
            (1, lambda: [b"ECHO", self.value()]),
            (1, lambda: [b"SELECT", r.choice([b"0", b"1", b"-1", b"x", b""])]),
            (0.5, lambda: [b"AUTH", b"x"]),
            (0.5, lambda: [b"CLIENT", r.choice([b"ID", b"GETNAME", b"INFO", b"LIST"])]),
            (0.5, lambda: [b"CLIENT", b"SETNAME", r.choice([b"x", b"", b"a b", b"a\nb"])]),
            (0.3, lambda: [b"CONFIG", b"GET", r.choice([b"maxmemory", b"MAXMEMORY-policy", b"nothing", b"databases", b"save?"])]),
            (0.3, lambda: [b"INFO"] + r.choice([[], [b"server"], [b"replication"]])),
            (0.3, lambda: [b"COMMAND", b"COUNT"]),
            (0.3, lambda: [b"TIME"]),
            (0.2, lambda: [b"FLUSHALL"] + r.choice([[], [b"SYNC"], [b"async"], [b"x"]])),
            (0.5, lambda: [r.choice([b"nonsense", b"", b"GETT", b"get|x", b"\x00\xff", b"a\r\nb"])] + self.keys(4)),
        ]  # fmt: skip
        words = r.choices([m for _, m in makers], [w for w, _ in makers])[0]()
        spoil = r.random()
        if not may_spoil:
            return words
        if spoil < 0.04 and len(words) > 1:
            words.pop(r.randrange(1, len(words)))
        elif spoil < 0.07:
            words.insert(r.randrange(1, len(words) + 1), r.choice(self.WORDS + self.INTEGERS))
        return words


# A time in milliseconds to live may have become a short one by a lost or added word.
def may_expire_soon(words):
    for i, word in enumerate(words):
        if word.lower() in (b"ex", b"px", b"exat", b"pxat") and i + 1 < len(words):
            try:
                n = int(words[i + 1])
            except ValueError:
                continue
            if word.lower() == b"ex" and 0 < n < 900 or word.lower() == b"px" and 0 < n < 900_000:
                return True
    if words[0].lower() in (b"expire", b"setex", b"pexpire", b"psetex") and len(words) > 2:
        try:
            n = int(words[2])
        except ValueError:
            return False
        return 0 < n < (900 if words[0].lower() in (b"expire", b"setex") else 900_000)
    return False


def inline(words):
    return all(w and all(33 <= c < 127 and c not in b"\"'\\" for c in w) for w in words) and len(b" ".join(words)) < 1000


def scan_all(pair, g):
    options = []
    if g.r.random() < 0.5:
        options += [b"MATCH", g.r.choice([b"{t}1*", b"*", b"nothing"])]
    if g.r.random() < 0.7:
        options += [b"COUNT", g.r.choice([b"1", b"3", b"100"])]
    if g.r.random() < 0.3:
        options += [b"TYPE", g.r.choice([b"string", b"list"])]

    def keys(connection):
        found, cursor = [], b"0"
        for _ in range(10_000):
            connection.send(request(b"SCAN", cursor, *options))
            raw, parts = connection.reply()
            require(parts and len(parts) == 2, f"SCAN answered {raw!r}")
            cursor = harness.bulk(parts[0][0])
            found += [harness.bulk(element) for element, _ in parts[1][1]]
            if cursor == b"0":
                return sorted(set(found))
        raise Failed("SCAN does not end")

    a, b = keys(pair.ours), keys(pair.theirs)
    if a != b:
        pair.differ(f"SCAN {options}: only ours has {sorted(set(a) - set(b))}, only theirs {sorted(set(b) - set(a))}")
    for bad in ([b"x"], [b"0", b"COUNT", b"0"], [b"0", b"COUNT", b"x"], [b"0", b"nothing"], [b"0", b"MATCH"]):
        pair.one(b"SCAN", *bad)


def sizes_agree(pair):
    """DBSIZE, once Redis has dropped what has expired."""
    for _ in range(100):
        a, b = pair.ours.ask("DBSIZE"), pair.theirs.ask("DBSIZE")
        if a == b:
            return
        time.sleep(0.05)
    pair.differ(f"DBSIZE: ours {a!r}, theirs {b!r}")


def expiry(pair, g):
    key = g.key()
    ttl = g.r.randrange(20, 60)
    how = g.r.randrange(4)
    if how == 0:
        pair.one(b"SET", key, b"short", b"PX", ttl)
    elif how == 1:
        pair.one(b"PSETEX", key, ttl, b"short")
    else:
        pair.one(b"SET", key, b"7")
        if how == 2:
            pair.one(b"PEXPIRE", key, ttl)
        else:
            pair.one(b"PEXPIREAT", key, int(time.time() * 1000) + ttl)
    time.sleep(ttl / 1000 + 0.1)
    after = [[b"GET", key], [b"TTL", key], [b"INCR", key], [b"APPEND", key, b"x"], [b"SETNX", key, b"y"], [b"EXISTS", key],
             [b"SET", key, b"n", b"GET"], [b"PERSIST", key], [b"TYPE", key], [b"RENAME", key, b"{t}0"]]  # fmt: skip
    g.r.shuffle(after)
    for words in after[: g.r.randrange(1, 4)]:
        pair.one(*words)


def session(pair, g, budget):
    """A connection's worth of commands; returns how many."""
    if g.r.random() < 0.5:
        pair.one(b"HELLO", b"3")
    done = 0
    while done < budget:
        r = g.r.random()
        if r < 0.02:
            scan_all(pair, g)
            sizes_agree(pair)
            done += 6
        elif r < 0.027:
            expiry(pair, g)
            done += 3
        elif r < 0.04:
            pair.one(b"HELLO", *g.r.choice([[b"2"], [b"3"], [], [b"4"], [b"x"], [b"3", b"SETNAME", b"n"], [b"2", b"foo"]]))
            done += 1
        elif r < 0.10:
            commands = [[b"MULTI"]]
            for _ in range(g.r.randrange(0, 6)):
                # A word too many or too few may become a key of another slot: not here.
                words = g.command(may_spoil=False)
                if g.r.random() < 0.03:
                    words = [words[0]]
                if not may_expire_soon(words) and words[0].lower() not in dialogues.NOT_IN_MULTI:
                    commands.append(words)
            if g.r.random() < 0.05:
                commands.append([b"MULTI"])
            commands.append([b"DISCARD"] if g.r.random() < 0.15 else [b"EXEC"])
            pair.many(commands)
            done += len(commands)
        elif r < 0.3:
            commands = [words for words in (g.command() for _ in range(g.r.randrange(2, 40))) if not may_expire_soon(words)]
            pair.many(commands)
            done += len(commands)
        else:
            words = g.command()
            if may_expire_soon(words):
                continue
            if g.r.random() < 0.2 and inline(words):
                pair.send(b" ".join(words) + g.r.choice([b"\r\n", b"\n"]))
                pair.compare(words)
            else:
                pair.one(*words)
            done += 1
    # The data is the same, byte by byte.
    pair.one(b"MGET", *[b"{t}%d" % i for i in range(12)])
    for i in range(12):
        pair.one(b"PTTL", b"{t}%d" % i)
    return done


def test(binary, arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commands", type=int, default=8000)
    parser.add_argument("--follower", action="store_true")
    options = parser.parse_args(arguments)
    server = shutil.which("redis-server")
    if not server:
        return "there is no redis-server (apt install redis-server)"

    directory = harness.temporary_directory()
    port = harness.free_ports(1)[0]
    # One database as here, and the same bound on values; otherwise Redis as it comes.
    redis = harness.start(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--appendonly", "no",
         "--databases", "1", "--proto-max-bulk-len", str(8 << 20)],
        directory + "/redis.log",
    )  # fmt: skip
    harness.wait_until(lambda: harness.listens(port), 10, "redis-server listens")
    if options.follower:
        cluster = harness.Cluster(binary, directory)
        cluster.start()
        leader = cluster.leader()
        nodes = cluster.nodes
        node = next(n for n in nodes if n is not leader)
    else:
        node = harness.Node(binary, directory).started()
        nodes = [node]

    counts, differences = {}, []
    generator = Generator(options.seed)
    done = connections = 0
    try:
        fixed = dialogues.run(lambda: Pair(node.port, port, counts, differences))
        pair = Pair(node.port, port, counts, differences)
        pair.one(b"FLUSHALL")
        pair.close()
        while done < options.commands and not differences:
            pair = Pair(node.port, port, counts, differences)
            done += session(pair, generator, 300)
            pair.close()
            connections += 1
    except Different:
        pass
    except Closed:
        raise Failed(f"seed {options.seed}, after {done} commands: a connection was closed; node: {node.output()}")
    if differences:
        raise Failed(f"unexpected differences; seed {options.seed}, command {done} and following\n" + "\n".join(differences))
    require(redis.poll() is None, "redis-server lives")
    require(all(n.alive() for n in nodes), "the nodes live")
    print(f"{done} commands on {connections} connections, and {fixed} dialogues; seed {options.seed}")
    for name, reason, _, _ in ALLOWED:
        print(f"  allowed {counts.get(name, 0):5}  {name}: {reason}")


if __name__ == "__main__":
    harness.main(test, 150)
