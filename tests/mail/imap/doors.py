"""What the Python programs of the IMAP tests share: sessions at the doors of a cluster.

Called as PROGRAM JSON CASE; the JSON says {"account", "password", "dir", "nodes": [{"imap", "imaps",
"certificate"}]}. A case is a function of the program's module.
"""

import imaplib
import json
import os
import ssl
import sys
import time
import zlib

import imapclient

# A cluster is patient with a node that dies, and so is a mail program.
PATIENCE = 60


class Doors:
    """The doors of all nodes, for one account."""

    def __init__(self, text):
        self.__dict__.update(json.loads(text))

    def context(self, node):
        return ssl.create_default_context(cafile=self.nodes[node]["certificate"])

    def imaplib(self, node, tls="tls", login=True):
        """A session of imaplib: TLS from the start (`tls`), STARTTLS (`starttls`) or none."""
        door = self.nodes[node]
        if tls == "tls":
            session = imaplib.IMAP4_SSL(
                "localhost", door["imaps"], ssl_context=self.context(node), timeout=PATIENCE
            )
        else:
            session = imaplib.IMAP4("localhost", door["imap"], timeout=PATIENCE)
            if tls == "starttls":
                assert "STARTTLS" in session.capabilities, session.capabilities
                session.starttls(self.context(node))
                assert "STARTTLS" not in session.capabilities, session.capabilities
        if login:
            session.login(self.account, self.password)
            # imaplib does not ask again by itself; what a session may do comes with the login.
            session.capabilities = tuple(ok(session.capability())[-1].decode().upper().split())
        return session

    def imapclient(self, node, mailbox=None):
        """A session of imapclient, with this mailbox selected."""
        door = self.nodes[node]
        session = imapclient.IMAPClient(
            "localhost",
            door["imaps"],
            ssl=True,
            ssl_context=self.context(node),
            use_uid=True,
            timeout=PATIENCE,
        )
        session.login(self.account, self.password)
        if mailbox:
            session.select_folder(mailbox)
        return session

    def tell(self, name):
        """Tells the test that it is time for something, and waits until it is done."""
        print(name, flush=True)
        flag = os.path.join(self.dir, name)
        end = time.monotonic() + PATIENCE
        while not os.path.exists(flag):
            assert time.monotonic() < end, f"nobody has answered to {name}"
            time.sleep(0.01)

    def tell_only(self, name):
        """Tells the test that it is time for something, and goes on."""
        print(name, flush=True)


def ok(answer):
    """The data of an answer that is OK."""
    assert answer[0] == "OK", answer
    return answer[1]


def command(session, *words):
    """One command of any name: what its last line says, and all untagged answers by their kind."""
    name = words[0].upper()
    imaplib.Commands.setdefault(name, ("NONAUTH", "AUTH", "SELECTED"))
    session.untagged_responses = {}
    status, text = session._simple_command(name, *words[1:])
    said, session.untagged_responses = session.untagged_responses, {}
    return status, text[0].decode(), said


def good(session, *words):
    """As `command`, of one that must succeed."""
    status, text, said = command(session, *words)
    assert status == "OK", (words, status, text)
    return text, said


def letter(number, subject=None, octets=0):
    """A small message; no two are the same."""
    fill = b"".join(b"%06d of letter %d\r\n" % (n, number) for n in range(octets // 20))
    subject = (subject or f"letter {number}").encode("utf-8")
    return (
        b"From: Ann <ann@example.org>\r\nTo: Ben <ben@example.org>\r\n"
        b"Date: Mon, 01 Jan 2024 %02d:%02d:00 +0000\r\nSubject: %s\r\n"
        b"Message-ID: <letter-%d@example.org>\r\n\r\nThis is letter %d.\r\n%s"
        % (number // 60 % 24, number % 60, subject, number, number, fill)
    )


def compress(session):
    """COMPRESS=DEFLATE (RFC 4978) for a session of imaplib: what it sends and reads is packed from
    here on."""
    good(session, "COMPRESS", "DEFLATE")
    pack = zlib.compressobj(wbits=-15)
    unpack = zlib.decompressobj(wbits=-15)
    send, sock = session.send, session.sock
    state = {"octets": b"", "packed": 0}

    def fill():
        # imaplib has read nothing ahead: the server says nothing after its OK by itself.
        packed = sock.recv(65536)
        if not packed:
            raise session.abort("the connection was closed")
        state["packed"] += len(packed)
        state["octets"] += unpack.decompress(packed)

    def read(size):
        while len(state["octets"]) < size:
            fill()
        out, state["octets"] = state["octets"][:size], state["octets"][size:]
        return out

    def readline():
        while b"\n" not in state["octets"]:
            fill()
        return read(state["octets"].index(b"\n") + 1)

    def write(data):
        send(pack.compress(bytes(data)) + pack.flush(zlib.Z_SYNC_FLUSH))

    session.read, session.readline, session.send = read, readline, write
    return state


def main(cases):
    """Runs the case that the command line names."""
    cases[sys.argv[2]](Doors(sys.argv[1]))
    print("done", flush=True)
