"""A second client: it changes a mailbox through its own node for as long as others work with it, and
tells in the end what it has made of it.

Each round one letter of its own comes in, by IMAP or by LMTP; most stay, some get flags, some are
moved, some removed. Besides, one of the letters that were there before is flagged as answered. What
it has sent lies in its directory.

    beside.py JSON CASE LMTP THEIRS

THEIRS is how many letters are there before it begins; their uids count from 1.
"""

import json
import os
import smtplib
import sys
import time

from churn import STRANGERS, Model
from doors import PATIENCE, letter, main

# One that is never told to end does so by itself.
MOST = 2000


class Second(Model):
    """It stays at one node, which lives: to lose the connection is an error."""

    def __init__(self, doors):
        super().__init__(doors, 0, False)
        self.lmtp = sys.argv[3]
        self.answered = 0

    def add(self, number):
        octets = letter(number, octets=2000)
        with open(os.path.join(self.doors.dir, f"{number}.eml"), "wb") as file:
            file.write(octets)
        if number % 2:
            return super().add(number)
        self.deliver(octets)
        return set()

    def deliver(self, octets):
        """As a mail server does it: what is refused for now is tried again, and is one message."""
        host, port = self.lmtp.rsplit(":", 1)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with smtplib.LMTP(host, int(port), timeout=PATIENCE) as door:
                    door.sendmail("s@example.net", [self.doors.account], octets)
                return
            except smtplib.SMTPRecipientsRefused as error:
                codes, refused = [code for code, _ in error.recipients.values()], error
            except smtplib.SMTPResponseException as error:
                codes, refused = [error.smtp_code], error
            assert all(400 <= code < 500 for code in codes) and time.monotonic() < end, refused
            time.sleep(0.1)

    def arrived(self, number, tries):
        """The uid of a letter that has come in. A session hears of what LMTP brings a moment later."""
        for _ in range(tries):
            uid = self.find(number)
            if uid:
                return uid
            time.sleep(0.02)
        return None

    def answer(self, theirs):
        if self.answered < theirs:
            self.answered += 1
            words = ("UID", "STORE", str(self.answered), "+FLAGS", "(\\Answered)")
            self.step(0, words, lambda n: False)


def second(doors, shared, removes):
    model = Second(doors)
    model.create_archive()
    theirs = int(sys.argv[4])
    for number in range(STRANGERS, STRANGERS + MOST):
        model.answer(theirs)
        model.mail["INBOX"][number] = model.add(number)
        # Somebody else may have taken it already.
        uid = model.arrived(number, 5 if shared else 50 * PATIENCE)
        assert uid or shared, f"letter {number} is lost"
        if uid:
            model.flag(number, uid)
        if uid and removes:
            model.take_away(number, uid)
        print("round", number - STRANGERS + 1, flush=True)
        if os.path.exists(os.path.join(doors.dir, "enough")):
            break
        time.sleep(0.01)
    said = {mailbox: {n: sorted(flags) for n, flags in mail.items()} for mailbox, mail in model.mail.items()}
    print("model", json.dumps({"answered": model.answered, "last": number, **said}))


def alone(doors):
    """Nobody else touches its letters."""
    second(doors, shared=False, removes=True)


def shared(doors):
    """Others may take its letters away."""
    second(doors, shared=True, removes=True)


def growing(doors):
    """Others alone take letters away."""
    second(doors, shared=True, removes=False)


if __name__ == "__main__":
    main(globals())
