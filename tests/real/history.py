"""What clients of real nodes saw, recorded command by command, and the verdict on it from outside the nodes.

A command that goes over the wire is an operation of its own. redis-py sends one again when the connection is lost,
under the same call, so what its caller sees is not enough: the recording sits in redis-py's connection, which pipelines
use too (DEL is one). An answer that says that nothing happened (MOVED, CLUSTERDOWN, LOADING, TRYAGAIN, ASK) makes an
operation failed; UNCERTAIN and a lost connection leave it open: it may take effect at any later time, or never.

The verdict is that of `mneme check` on the keys' histories, and of two counts that share no code with it.
"""

import collections
import itertools
import json
import threading
import time

import harness
from harness import require

OPERATIONS = {"GET": "get", "SET": "set", "DEL": "delete", "INCRBY": "incr", "APPEND": "append"}


class History:
    """Operations in the format of `mneme check --format jsonl`."""

    def __init__(self):
        self.operations = []
        self.strange = []  # error replies that no client should ever get here
        self._lock = threading.Lock()
        self._places = itertools.count()  # taking the next one is atomic
        self._begin_ns = time.monotonic_ns()

    def _now(self):
        return next(self._places), time.monotonic_ns() - self._begin_ns

    def call(self, client, name, key, value=None):
        operation = {"client": client, "key": key, "op": OPERATIONS[name]}
        if name == "INCRBY":
            operation["by"] = value
        elif value is not None:
            operation["value"] = value
        with self._lock:
            self.operations.append(operation)
        operation["call"], operation["call_ns"] = self._now()
        return operation

    def answered(self, operation, answer):
        operation["return"], operation["return_ns"] = self._now()
        if operation["op"] == "get":
            operation["result"] = None if answer is None else answer.decode()
        elif operation["op"] == "delete":
            operation["result"] = answer == 1
        elif operation["op"] != "set":
            operation["result"] = answer
        elif answer != b"OK":
            self.strange.append(f"SET of {operation['key']} answered {answer!r}")

    def failed(self, operation):
        operation["return"], operation["return_ns"] = self._now()
        operation["failed"] = True


def recording(history, client):
    """A connection class for redis-py that records into `history`."""
    from redis import connection, exceptions

    certainly_not = (
        exceptions.MovedError,
        exceptions.AskError,
        exceptions.TryAgainError,
        exceptions.ClusterDownError,
        exceptions.BusyLoadingError,
    )

    class Recording(connection.Connection):
        packed = ()  # commands made ready to be sent: one, or those of a pipeline
        sent = ()  # what becomes of those that were, in the order of the replies; None for what is not recorded

        def pack_command(self, *args):
            self.packed = [args]
            return super().pack_command(*args)

        def pack_commands(self, commands):
            commands = list(commands)
            bytes_to_send = super().pack_commands(commands)
            self.packed = commands
            return bytes_to_send

        def send_packed_command(self, *args, **options):
            commands = self.packed
            if not self._sock:
                self.connect()  # what fails here was not sent
            self.sent = collections.deque(history.call(client, *c) if c[0] in OPERATIONS else None for c in commands)
            super().send_packed_command(*args, **options)

        def read_response(self, *args, **options):
            operation = self.sent.popleft() if self.sent else None
            try:
                answer = super().read_response(*args, **options)
            except certainly_not:
                if operation:
                    history.failed(operation)
                raise
            except exceptions.ResponseError as error:
                if operation and not str(error).startswith("UNCERTAIN "):
                    history.strange.append(f"{operation['op']} of {operation['key']}: {error}")
                raise
            if operation:
                history.answered(operation, answer)
            return answer

    return Recording


def is_open(operation):
    return "return" not in operation


def is_done(operation):
    return not is_open(operation) and not operation.get("failed")


def linearizable(binary, path, operations):
    """Writes the history to `path` and has it checked: whether it is, and the checker's words."""
    with open(path, "w") as file:
        print(json.dumps({"mneme_history": 1}), file=file)
        for operation in operations:
            print(json.dumps(operation), file=file)
    done = harness.run([binary, "check", path, "--model", "kv", "--format", "jsonl"], 60)
    require(done.returncode in (0, 1), f"mneme check: exit code {done.returncode}; {done.stdout} {done.stderr}")
    return done.returncode == 0, done.stdout


def wrong_counters(operations, prefix):
    """Of keys that only INCR writes, those whose last GET is not what the acknowledged and the open ones allow."""
    wrong = []
    for key in sorted({o["key"] for o in operations if o["key"].startswith(prefix)}):
        mine = [o for o in operations if o["key"] == key]
        reads = sorted((o for o in mine if o["op"] == "get" and is_done(o)), key=lambda o: o["return"])
        value = int(reads[-1]["result"] or 0) if reads else None
        acknowledged = sum(o["op"] == "incr" and is_done(o) for o in mine)
        unknown = sum(o["op"] == "incr" and is_open(o) for o in mine)
        if value is None or not acknowledged <= value <= acknowledged + unknown:
            wrong.append(f"{key} is {value}, with {acknowledged} acknowledged and {unknown} unknown")
    return wrong


def lost_writes(operations, prefix):
    """Of keys that are written once, those whose acknowledged value is not what the last GET shows."""
    acknowledged, shown = {}, {}
    for operation in sorted(filter(is_done, operations), key=lambda o: o["return"]):
        if not operation["key"].startswith(prefix):
            continue
        if operation["op"] == "set":
            acknowledged[operation["key"]] = operation["value"]
        elif operation["op"] == "get":
            shown[operation["key"]] = operation["result"]
    return [f"{k} is {shown.get(k)} instead of {v}" for k, v in acknowledged.items() if shown.get(k) != v]
