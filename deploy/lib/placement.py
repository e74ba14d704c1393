#!/usr/bin/env python3
"""Answers small questions about JSON that the command line tool prints.

    posthouse account get A -o json   | placement.py slot
    posthouse cluster shards -o json  | placement.py leader SLOT     prints: SHARD NODE

and one about the machine:

    placement.py ports FIRST COUNT      prints COUNT free ports of loopback, from FIRST on
"""

import json
import socket
import sys


def slot():
    account = json.load(sys.stdin)
    account = account.get("account", account) if isinstance(account, dict) else account
    number = account["account_id"]
    # A slot is the upper 16 bits of an account's id, which may be printed in hexadecimal.
    number = int(number, 16) if isinstance(number, str) else number
    print(number >> 48)


def leader(slot):
    shards = json.load(sys.stdin)
    shards = shards["shards"] if isinstance(shards, dict) else shards
    for shard in shards:
        ranges = shard.get("slots") or []
        if any(r["first"] <= slot <= r["last"] for r in ranges):
            print(shard["shard"], shard["leader_node"])
            return
    sys.exit(f"no shard holds slot {slot}")


def ports(first, count):
    found = []
    for port in range(first, min(first + 2000, 65536)):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            print(*found)
            return
    sys.exit(f"fewer than {count} free ports from {first} on")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["slot"]:
            slot()
        case ["leader", number]:
            leader(int(number))
        case ["ports", first, count]:
            ports(int(first), int(count))
        case _:
            sys.exit(__doc__)
