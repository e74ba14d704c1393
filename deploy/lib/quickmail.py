#!/usr/bin/env python3
"""The mail side of the quickstart: delivers over LMTP, reads back, compares.

    quickmail.py deliver --lmtp ADDR --to ACCOUNT... FILE...
    quickmail.py stream  --lmtp ADDR --to ACCOUNT --keep DIR --log FILE --seconds N
    quickmail.py pause   --log FILE
    quickmail.py pop3    --pop3s ADDR --to ACCOUNT --certificate FILE --password-file FILE
    quickmail.py imap    --imaps ADDR --to ACCOUNT --certificate FILE --password-file FILE
    quickmail.py verify  --cli PATH --addr ADDR --to ACCOUNT... DIR...

`stream` delivers small messages one after the other, as a mail server would: what is answered
with 4xx, or not at all, is sent again. Each message is kept in DIR before it is sent; the log
gets one line per acknowledgement. `pause` prints their number and the longest time between two
of them, in milliseconds. `pop3` logs in over TLS and fetches the first and the last message; `imap`
fetches all of them.
`verify` reads every mailbox back with the command line tool and checks that each file of the DIRs
is there exactly once, octet by octet after the Return-Path line.
"""

import argparse
import collections
import imaplib
import json
import pathlib
import poplib
import socket
import ssl
import subprocess
import sys
import time

SENDER = "sender@example.net"


class Refused(Exception):
    """An answer that is not the one hoped for."""


class Lmtp:
    """A small LMTP client (RFC 2033) that changes no octet of a message."""

    def __init__(self, addr, timeout=30):
        host, port = addr.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.file = self.socket.makefile("rb")
        self.expect(b"220")
        self.command(b"LHLO quickstart.example.org", b"250")

    def close(self):
        self.file.close()
        self.socket.close()

    def reply(self):
        while True:
            line = self.file.readline(4096)
            if not line.endswith(b"\n"):
                raise ConnectionError("the connection broke")
            if line[3:4] != b"-":
                return line.rstrip()

    def expect(self, code):
        reply = self.reply()
        if not reply.startswith(code):
            raise Refused(reply.decode(errors="replace"))

    def command(self, line, code):
        self.socket.sendall(line + b"\r\n")
        self.expect(code)

    def deliver(self, message, accounts):
        """Sends one message; returns the reply for each account."""
        self.command(b"MAIL FROM:<%s>" % SENDER.encode(), b"250")
        try:
            for account in accounts:
                self.command(b"RCPT TO:<%s>" % account.encode(), b"250")
        except Refused:
            self.command(b"RSET", b"250")
            raise
        if message.endswith(b"\r\n"):
            self.command(b"DATA", b"354")
            self.socket.sendall(stuffed(message) + b".\r\n")
        else:
            # DATA cannot say that the last line has no end; BDAT (RFC 3030) can.
            self.socket.sendall(b"BDAT %d LAST\r\n" % len(message) + message)
        return [self.reply() for _ in accounts]


def stuffed(message):
    """Doubles the dots at the starts of lines; lines end with CRLF and with nothing else."""
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def deliver(arguments):
    client = Lmtp(arguments.lmtp)
    for name in arguments.files:
        message = pathlib.Path(name).read_bytes()
        for account, reply in zip(arguments.to, client.deliver(message, arguments.to)):
            if not reply.startswith(b"250"):
                sys.exit(f"{name} for {account}: {reply.decode(errors='replace')}")
    count, accounts = len(arguments.files), len(arguments.to)
    print(f"{count} messages delivered to {accounts} accounts each")


def stream(arguments):
    keep = pathlib.Path(arguments.keep)
    keep.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + arguments.seconds
    client, number = None, 0
    with open(arguments.log, "a", buffering=1) as log:
        while time.monotonic() < end:
            number += 1
            message = (
                f"From: {SENDER}\r\nTo: {arguments.to[0]}\r\n"
                f"Subject: Number {number} of {time.time_ns()}\r\n\r\n"
                f"Sent while nodes come and go.\r\n"
            ).encode()
            (keep / f"{number:05d}.eml").write_bytes(message)
            while True:
                try:
                    client = client or Lmtp(arguments.lmtp)
                    reply = client.deliver(message, arguments.to[:1])[0]
                    if reply.startswith(b"250"):
                        break
                    problem = reply.decode(errors="replace")
                except (OSError, Refused) as error:
                    problem = str(error)
                    if client:
                        client.close()
                    client = None
                log.write(f"again {time.monotonic():.6f} {problem}\n")
                if time.monotonic() > end + 60:
                    sys.exit(f"no acknowledgement for 60 s: {problem}")
                time.sleep(0.02)
            log.write(f"ack {time.monotonic():.6f} {number}\n")
            time.sleep(0.005)


def pause(arguments):
    acks = []
    with open(arguments.log) as log:
        for line in log:
            kind, at, _ = line.split(" ", 2)
            if kind == "ack":
                acks.append(float(at))
    longest = max((b - a for a, b in zip(acks, acks[1:])), default=0.0)
    print(len(acks), round(longest * 1000))


def pop3(arguments):
    poplib._MAXLINE = 1 << 30  # some samples have very long lines
    host, port = arguments.pop3s.rsplit(":", 1)
    context = ssl.create_default_context(cafile=arguments.certificate)
    door = poplib.POP3_SSL(host, int(port), timeout=30, context=context)
    door.user(arguments.to[0])
    door.pass_(pathlib.Path(arguments.password_file).read_text().strip())
    count, octets = door.stat()
    for number in sorted({min(1, count), count} - {0}):
        lines = door.retr(number)[1]
        if not lines[0].startswith(b"Return-Path:"):
            sys.exit(f"message {number} begins with {lines[0][:80]!r}")
    door.quit()
    print(f"{count} messages, {octets} octets")


def imap(arguments):
    host, port = arguments.imaps.rsplit(":", 1)
    context = ssl.create_default_context(cafile=arguments.certificate)
    door = imaplib.IMAP4_SSL(host, int(port), timeout=30, ssl_context=context)
    password = pathlib.Path(arguments.password_file).read_text().strip()
    try:
        door.login(arguments.to[0], password)
        count = int(door.select("INBOX", readonly=True)[1][0])
        data = door.fetch("1:*", "(RFC822.SIZE BODY.PEEK[])")[1] if count else []
    except imaplib.IMAP4.error as error:
        sys.exit(f"{host}:{port} says {error}")
    mail = [item[1] for item in data if isinstance(item, tuple)]
    if len(mail) != count:
        sys.exit(f"{len(mail)} messages came, not {count}")
    door.logout()
    print(f"{count} messages, {sum(map(len, mail))} octets")


def run(arguments, *words):
    command = [arguments.cli, "--addr", arguments.addr, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
    return done.stdout


def messages(listing):
    """The messages of `mail list -o json`: a list, or an object with a list inside."""
    value = json.loads(listing)
    return value["messages"] if isinstance(value, dict) else value


def verify(arguments):
    total = 0
    for account in arguments.to:
        expected = collections.Counter()
        for folder in arguments.folders:
            # "DIR" is expected by every account, "DIR=ACCOUNT" by that one alone.
            path, _, only = folder.partition("=")
            if only in ("", account):
                for file in sorted(pathlib.Path(path).glob("*.eml")):
                    expected[file.read_bytes()] += 1
        found = collections.Counter()
        for message in messages(run(arguments, "mail", "list", account, "--limit", "0", "-o", "json")):
            octets = run(arguments, "mail", "fetch", account, str(message["uid"]))
            line, _, rest = octets.partition(b"\r\n")
            if line != b"Return-Path: <%s>" % SENDER.encode():
                sys.exit(f"{account}: uid {message['uid']} begins with {line[:80]!r}")
            found[rest] += 1
        if found != expected:
            missing, surplus = expected - found, found - expected
            for octets in list(missing)[:5]:
                print(f"missing: {octets[:200]!r}", file=sys.stderr)
            for octets in list(surplus)[:5]:
                print(f"not expected: {octets[:200]!r}", file=sys.stderr)
            sys.exit(
                f"{account}: {missing.total()} messages are missing or changed, "
                f"{surplus.total()} are not the ones that were sent"
            )
        total += found.total()
    print(f"{total} messages read back, each there once, equal octet by octet")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for command in (deliver, stream, pause, pop3, imap, verify):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(command=command)
        if command in (deliver, stream):
            sub.add_argument("--lmtp", required=True)
        if command is not pause:
            sub.add_argument("--to", action="append", required=True)
        if command in (stream, pause):
            sub.add_argument("--log", required=True)
        if command is deliver:
            sub.add_argument("files", nargs="+")
        if command is stream:
            sub.add_argument("--keep", required=True)
            sub.add_argument("--seconds", type=float, default=6)
        if command is pop3:
            sub.add_argument("--pop3s", required=True)
        if command is imap:
            sub.add_argument("--imaps", required=True)
        if command in (pop3, imap):
            sub.add_argument("--certificate", required=True)
            sub.add_argument("--password-file", required=True)
        if command is verify:
            sub.add_argument("--cli", required=True)
            sub.add_argument("--addr", required=True)
            sub.add_argument("folders", nargs="+")
    arguments = parser.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
