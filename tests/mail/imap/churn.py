"""Mail programs that change mailboxes while nodes die: they keep a model of what they were promised,
and compare it with what another node says at the end."""

import imaplib
import re
import time

from doors import ok, command, good, letter, main

ROUNDS = 90
# Letters from here on are of a second client.
STRANGERS = 5000
# What imaplib raises when a connection is lost.
LOST = (imaplib.IMAP4.abort, OSError)


class Model:
    """What should be in the mailboxes: flags by the letter's number."""

    def __init__(self, doors, node, reconnects):
        self.doors, self.node, self.reconnects = doors, node, reconnects
        self.mail = {"INBOX": {}, "Archive": {}}
        self.longest_ms, self.lost = 0, 0
        self.connect()

    def connect(self):
        # A node may be gone for as long as it likes; the others serve.
        for _ in range(30):
            try:
                self.session = self.doors.imaplib(self.node)
                good(self.session, "SELECT", "INBOX")
                self.session.state = "SELECTED"
                return
            except LOST:
                assert self.reconnects
                self.node = (self.node + 1) % len(self.doors.nodes)
                time.sleep(0.1)
        raise AssertionError("no node serves")

    def reconnect(self):
        assert self.reconnects, "the connection of a living node was lost"
        self.lost += 1
        self.connect()

    def find(self, number):
        """The uid of a letter in INBOX, if it is there."""
        what = f'HEADER Message-ID "<letter-{number}@example.org>"'
        while True:
            try:
                _, said = good(self.session, "UID", "SEARCH", what)
                break
            except LOST:
                self.reconnect()
        uids = said["SEARCH"][0].split()
        assert len(uids) <= 1, f"letter {number} is there twice"
        return uids[0].decode() if uids else None

    def step(self, number, words, done, literal=None):
        """One command that succeeds. When its answer is lost, `done` says whether it took effect; it is
        said again if not."""
        begin = time.monotonic()
        while True:
            try:
                self.session.literal = literal
                status, text, _ = command(self.session, *words)
                assert status == "OK", (words, status, text)
                break
            except LOST:
                self.reconnect()
                if done(number):
                    break
        self.longest_ms = max(self.longest_ms, int((time.monotonic() - begin) * 1000))

    def create_archive(self):
        """A second client may have done it."""
        status, text, _ = command(self.session, "CREATE", "Archive")
        assert status == "OK" or "ALREADYEXISTS" in text, text

    def there(self, number):
        return self.find(number) is not None

    def add(self, number):
        """A letter comes in; its flags."""
        self.step(number, ("APPEND", "INBOX", "(\\Seen)"), self.there, letter(number, octets=2000))
        return {"\\Seen"}

    def flag(self, number, uid):
        if number % 3 == 0:
            self.step(number, ("UID", "STORE", uid, "+FLAGS", "(\\Flagged red)"), lambda n: False)
            self.mail["INBOX"][number] |= {"\\Flagged", "red"}

    def take_away(self, number, uid):
        inbox, archive = self.mail["INBOX"], self.mail["Archive"]
        gone = lambda n: not self.there(n)
        if number % 4 == 0:
            self.step(number, ("UID", "MOVE", uid, "Archive"), gone)
            archive[number] = inbox.pop(number)
        elif number % 7 == 0:
            self.step(number, ("UID", "STORE", uid, "+FLAGS.SILENT", "(\\Deleted)"), lambda n: False)
            self.step(number, ("UID", "EXPUNGE", uid), gone)
            inbox.pop(number)

    def round(self, number):
        self.mail["INBOX"][number] = self.add(number)
        uid = self.find(number)
        self.flag(number, uid)
        self.take_away(number, uid)

    def check(self, node):
        """Another node holds what was promised: nothing lost, nothing twice, nothing else but what a
        second client has put there."""
        session = self.doors.imaplib(node)
        for mailbox, wanted in self.mail.items():
            ok(session.select(mailbox, readonly=True))
            found = []
            for item in ok(session.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")):
                if isinstance(item, tuple):
                    flags = set(re.search(rb"FLAGS \(([^)]*)\)", item[0])[1].decode().split())
                    number = int(re.search(rb"<letter-(\d+)@", item[1])[1])
                    if number >= STRANGERS:
                        continue
                    assert item[1] == letter(number, octets=2000), f"letter {number} differs"
                    found.append((number, sorted(flags - {"\\Recent"})))
            expected = sorted((n, sorted(f)) for n, f in wanted.items())
            assert sorted(found) == expected, (mailbox, found, expected)


def run(doors, reconnects):
    # The test says by the first node which one it will kill, and by the last which one it will not.
    model = Model(doors, 0, reconnects)
    model.create_archive()
    for number in range(1, ROUNDS + 1):
        if number == ROUNDS // 3:
            doors.tell_only("middle")
        model.round(number)
    model.check(len(doors.nodes) - 1)
    kept = {mailbox: len(mail) for mailbox, mail in model.mail.items()}
    print(f"kept {kept['INBOX']} {kept['Archive']} lost {model.lost} longest {model.longest_ms} ms")


def pause(doors):
    """A session at a node that lives: it notices a pause alone."""
    run(doors, False)


def lost(doors):
    """A session whose node dies connects to another one and goes on."""
    run(doors, True)


def third(doors):
    """Changes a mailbox while others synchronise it: adds letters, answers some, moves some."""
    uid = lambda number: number + 1  # of the letters that are there from the start, 0 to 59
    client = doors.imapclient(0, "INBOX")
    client.create_folder("Archive")
    for n in range(3001, 3051):
        client.append("INBOX", letter(n), [b"\\Seen"])
        if n <= 3010:
            client.add_flags([uid(n - 2960)], [b"\\Answered"])
        elif n <= 3019:
            client.move([uid(n - 2960)], "Archive")


if __name__ == "__main__":
    main(globals())
