#!/usr/bin/env python3
"""core imports nothing that would let time, chance, threads, files, sockets or the environment in.

The include rules (tests/unit/tidy) see what core's sources name; this sees what its objects need, whatever header it came
from. Every symbol that core's libraries import and do not define among themselves must be on the list of allowed ones.
Not seen is what needs no symbol, such as an instruction that reads the processor's time stamp.

usage: core_imports.py NM ALLOWED LIBRARY...
"""
import fnmatch
import re
import subprocess
import sys

LINE = re.compile(r"^.*?:(?P<object>[^:]+)\.o:\s*[0-9a-f]* +(?P<type>[A-Za-z]) (?P<name>.*)$")
# fnmatch, with * as the only special character.
GLOB = str.maketrans({"[": "[[]", "?": "[?]"})


def read_allowed(path):
    allowed = []
    with open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = [field.strip() for field in line.split("|", 2)]
            if len(fields) != 3 or not all(fields):
                sys.exit(f"{path}:{number}: an entry is PATTERN | WHERE | WHY")
            allowed.append((fields[0].translate(GLOB), fields[1]))
    return allowed


def main():
    nm, allowed = sys.argv[1], read_allowed(sys.argv[2])
    wanted, defined = {}, set()
    for library in sys.argv[3:]:
        listing = subprocess.run([nm, "-A", "-C", library], stdout=subprocess.PIPE, check=True, text=True).stdout
        symbols = [match.groupdict() for match in map(LINE.match, listing.splitlines()) if match]
        if not any(symbol["type"] == "U" for symbol in symbols):
            sys.exit(f"{library}: {nm} shows no import, which cannot be")
        for symbol in symbols:
            if symbol["type"] in "Uw":
                wanted.setdefault(symbol["name"], set()).add(symbol["object"])
            else:
                defined.add(symbol["name"])
    refused = 0
    for name in sorted(wanted.keys() - defined):
        for source in sorted(wanted[name]):
            if not any(fnmatch.fnmatchcase(name, pattern) and where in ("*", source) for pattern, where in allowed):
                print(f"{source} imports {name}")
                refused += 1
    if refused:
        print(f"{refused} imports of core are not on {sys.argv[2]}: take the thing through Env, or add it with a reason")
        return 1
    print(f"{len(wanted.keys() - defined)} imports, all allowed")
    return 0


sys.exit(main())
