"""What Python's imaplib and imapclient make of the IMAP door, one extension a case. Each case has an
account of its own; what is changed through one node is looked at through another."""

import datetime
import os

from doors import command, compress, good, letter, main, ok


def fetch_all(session, mailbox):
    """Octets by uid."""
    session.select(mailbox, readonly=True)
    data = ok(session.uid("FETCH", "1:*", "(UID BODY.PEEK[])"))
    found = {}
    for item in data:
        if isinstance(item, tuple):
            found[int(item[0].split(b"UID ")[1].split()[0])] = item[1]
    return found


def samples(doors):
    folder = os.path.join(doors.dir, "samples")
    return [open(os.path.join(folder, n), "rb").read() for n in sorted(os.listdir(folder))]


def octets(doors):
    """Any octets come back as they are: appended through one node, plain, with STARTTLS, TLS and
    COMPRESS, and fetched through the others."""
    mail = samples(doors)
    writer = doors.imaplib(0, "starttls")
    for n, message in enumerate(mail):
        # imaplib.append would "mend" line ends.
        writer.literal = message
        text, _ = good(writer, "APPEND", "INBOX", "(\\Seen)" if n % 2 else "()")
        assert f"APPENDUID" in text and text.split("]")[0].endswith(f" {n + 1}"), text
    expected = dict(enumerate(mail, 1))
    for node, tls in [(0, "none"), (1, "starttls"), (2, "tls")]:
        reader = doors.imaplib(node, tls)
        assert fetch_all(reader, "INBOX") == expected, (node, tls)
        reader.logout()
    packed = doors.imaplib(1, "starttls")
    state = compress(packed)
    assert fetch_all(packed, "INBOX") == expected
    assert state["packed"] < sum(map(len, mail)), "packed is smaller"
    assert command(packed, "COMPRESS", "DEFLATE")[0] in ("NO", "BAD")
    packed.literal = mail[0]
    good(packed, "APPEND", "INBOX", "()")
    assert fetch_all(packed, "INBOX")[len(mail) + 1] == mail[0]
    ok(packed.expunge() if packed.select("INBOX") else None)
    assert packed.logout()[0] == "BYE"


def basics(doors):
    """The commands that imaplib has a method for."""
    one, other = doors.imaplib(0), doors.imaplib(1)
    for name in ["Work", "Work/2026", '"Two words"', "&U,BTFw-"]:
        ok(one.create(name))
        ok(one.subscribe(name))
    listed = b"\n".join(ok(other.list()))
    for name in [b'"/" Work/2026', b'"/" "Two words"', b'"/" &U,BTFw-', b'"/" INBOX']:
        assert name in listed, listed
    assert len(ok(other.lsub())) == 4
    ok(one.unsubscribe("Work"))
    assert len(ok(other.lsub())) == 3
    ok(one.rename("Work", "Done"))
    assert b'"/" Done/2026' in b"\n".join(ok(other.list('""', "Done/*")))
    # A date that is told is kept.
    when = '"05-Mar-2020 06:07:08 +0200"'
    for n in range(1, 6):
        ok(one.append("Done/2026", "(\\Flagged blue)" if n == 2 else None, when, letter(n)))
    assert ok(other.status("Done/2026", "(MESSAGES UNSEEN UIDNEXT)")) == [
        b"Done/2026 (MESSAGES 5 UNSEEN 5 UIDNEXT 6)"
    ]
    assert ok(other.select("Done/2026")) == [b"5"]
    assert other.response("PERMANENTFLAGS")[1][0]
    date = ok(other.fetch("2", "(FLAGS INTERNALDATE RFC822.SIZE)"))[0]
    # The same moment; the door tells times as UTC.
    assert b"\\Flagged" in date and b"blue" in date, date
    assert b'INTERNALDATE " 5-Mar-2020 04:07:08 +0000"' in date, date
    assert f"RFC822.SIZE {len(letter(2))}".encode() in date, date
    assert ok(other.search(None, "FLAGGED")) == [b"2"]
    assert ok(other.search(None, "SUBJECT", '"letter 3"')) == [b"3"]
    assert ok(other.search(None, "KEYWORD", "blue", "SINCE", "4-Mar-2020")) == [b"2"]
    assert ok(other.uid("SEARCH", "TEXT", '"letter 5."')) == [b"5"]
    header = ok(other.fetch("4", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
    assert header[0][1] == b"Subject: letter 4\r\n\r\n", header
    ok(one.select("Done/2026"))
    ok(one.store("1,3", "+FLAGS", "(\\Deleted)"))
    gone = [[b"1", b"2"], [b"3", b"1"]]  # whichever goes first, the others move up
    assert ok(one.expunge()) in gone
    # The other session's numbers stay until it may hear of it (RFC 9051, section 7.5.1).
    status, text, said = command(other, "FETCH", "1:5", "(UID)")
    assert (status, text[:15]) == ("OK", "[EXPUNGEISSUED]") and "EXPUNGE" not in said, text
    assert [row.split(b" ")[0] for row in said["FETCH"]] == [b"2", b"4", b"5"], said
    ok(other.noop())
    assert other.response("EXPUNGE")[1] in gone
    assert ok(other.uid("SEARCH", "ALL")) == [b"2 4 5"]
    text, said = good(one, "UID", "COPY", "2:4", "INBOX")
    assert text.startswith("[COPYUID ") and " 2,4 1:2]" in text, text
    assert len(fetch_all(doors.imaplib(2), "INBOX")) == 2
    ok(one.close())
    ok(one.delete("Done/2026"))
    assert other.namespace()[1][0] == b'(("" "/")) NIL NIL'
    assert one.logout()[0] == "BYE"


def condstore(doors):
    """RFC 7162, sections 3.1.3 to 3.1.5."""
    one, other = doors.imaplib(0), doors.imaplib(1)
    for n in range(1, 11):
        ok(one.append("INBOX", None, None, letter(n)))
    text, said = good(one, "SELECT", "INBOX", "(CONDSTORE)")
    one.state = "SELECTED"
    modseq = int(said["HIGHESTMODSEQ"][0])
    ok(other.select("INBOX"))
    ok(other.uid("STORE", "3,7", "+FLAGS", "(\\Flagged)"))
    # Only what has changed since.
    changed, said = good(one, "UID", "FETCH", "1:*", f"(FLAGS) (CHANGEDSINCE {modseq})")
    rows = {line.split(b" ")[0]: line for line in said["FETCH"]}
    assert set(rows) == {b"3", b"7"} and all(b"MODSEQ (" in r for r in rows.values()), rows
    # Changed by the other: not changed; the rest is.
    text, said = good(one, "UID", "STORE", "1:4", f"(UNCHANGEDSINCE {modseq})", "+FLAGS", "(blue)")
    assert text.startswith("[MODIFIED 3]"), text
    newest = int(text and ok(one.uid("FETCH", "4", "(MODSEQ)"))[0].split(b"MODSEQ (")[1].split(b")")[0])
    assert newest > modseq
    ok(other.noop())
    blue = ok(other.uid("SEARCH", "KEYWORD", "blue"))
    assert blue == [b"1 2 4"], blue
    assert ok(other.uid("SEARCH", "MODSEQ", str(newest)))[0].startswith(b"1 2 4 (MODSEQ"), "all of one step"
    # imapclient says it its own way.
    client = doors.imapclient(2, "INBOX")
    assert set(client.fetch("1:*", ["FLAGS"], [f"CHANGEDSINCE {newest - 1}"])) == {1, 2, 4}
    status = client.folder_status("INBOX", ["HIGHESTMODSEQ"])
    assert status[b"HIGHESTMODSEQ"] == newest, status


def resume(session, uidvalidity, modseq, known):
    text, said = good(session, "SELECT", "INBOX", f"(QRESYNC ({uidvalidity} {modseq} {known}))")
    session.state = "SELECTED"
    vanished = b" ".join(said.get("VANISHED", []))
    return vanished, {int(r.split(b"UID ")[1].split()[0].strip(b")")): r for r in said.get("FETCH", [])}


def qresync(doors):
    """RFC 7162, section 3.2: a client that was away is told what has changed and what is gone."""
    one = doors.imaplib(0)
    for n in range(1, 21):
        ok(one.append("INBOX", None, None, letter(n)))
    good(one, "ENABLE", "QRESYNC")
    text, said = good(one, "SELECT", "INBOX")
    uidvalidity, modseq = int(said["UIDVALIDITY"][0]), int(said["HIGHESTMODSEQ"][0])
    one.logout()
    # Meanwhile, through another node, by a session that knows nothing of all this:
    other = doors.imaplib(1)
    ok(other.select("INBOX"))
    ok(other.uid("STORE", "2,5:7,20", "+FLAGS.SILENT", "(\\Deleted)"))
    ok(other.expunge())
    ok(other.uid("STORE", "9", "+FLAGS", "(\\Answered)"))
    ok(other.append("INBOX", None, None, letter(21)))
    # Back, through a third one.
    back = doors.imaplib(2)
    good(back, "ENABLE", "QRESYNC CONDSTORE")
    vanished, rows = resume(back, uidvalidity, modseq, "1:20")
    assert vanished == b"(EARLIER) 2,5:7,20", vanished
    assert set(rows) == {9} and b"\\Answered" in rows[9], rows
    # What vanishes now is told by its uid.
    ok(other.uid("STORE", "1", "+FLAGS.SILENT", "(\\Deleted)"))
    ok(other.uid("EXPUNGE", "1"))
    text, said = good(back, "NOOP")
    assert said["VANISHED"] == [b"1"] and "EXPUNGE" not in said, said
    # By FETCH, too; and a stranger's uidvalidity gets no news.
    text, said = good(back, "UID", "FETCH", "1:*", f"(FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert said["VANISHED"] == [b"(EARLIER) 1:2,5:7,20"], said
    vanished, rows = resume(back, uidvalidity + 1, modseq, "1:20")
    assert vanished == b"" and not rows


def changes_of(client, seconds=20):
    """What an IDLE says within this time, until something comes."""
    return client.idle_check(timeout=seconds)


def idle(doors):
    """A change made through one node arrives at an IDLE at another, also while a leader dies."""
    watcher, changer = doors.imapclient(0, "INBOX"), doors.imapclient(1, "INBOX")
    watcher.idle()

    def until(wanted):
        found = []
        for _ in range(20):
            found += changes_of(watcher)
            if wanted(found):
                return found
        raise AssertionError(found)

    changer.append("INBOX", letter(1))
    until(lambda found: (1, b"EXISTS") in found)
    changer.noop()
    changer.add_flags([1], [b"\\Flagged"])
    until(lambda found: any(f[1] == b"FETCH" and (b"\\Flagged",) in f[2] for f in found))
    doors.tell("idling")
    changer.append("INBOX", letter(2))
    until(lambda found: (2, b"EXISTS") in found)
    changer.delete_messages([1])
    changer.expunge()
    until(lambda found: (1, b"EXPUNGE") in found)
    watcher.idle_done()
    assert watcher.search() == [2]


def notify(doors):
    """One connection is told of all mailboxes (RFC 5465), by other nodes, also while a leader dies."""
    watcher, changer = doors.imaplib(0), doors.imapclient(1)
    changer.create_folder("Lists")
    assert "NOTIFY" in watcher.capabilities, watcher.capabilities
    ok(watcher.select("INBOX"))
    wishes = (
        "(SELECTED (MessageNew (BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange)) "
        "(PERSONAL (MessageNew MessageExpunge MailboxName SubscriptionChange))"
    )
    said = good(watcher, "NOTIFY", "SET STATUS", wishes)[1]
    assert said["STATUS"][0].startswith(b"Lists (MESSAGES 0 UIDNEXT 1 "), said

    def until(*wanted):
        for text in wanted:
            lines = []
            while not any(text in line for line in lines):
                lines.append(watcher.readline())
                assert lines[-1] and len(lines) < 20, (text, lines)

    changer.append("Lists", letter(1))
    until(b"* STATUS Lists (MESSAGES 1 UIDNEXT 2 ")
    changer.append("INBOX", letter(2))
    until(b"* 1 EXISTS", b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (SUBJECT)]", b"Subject: letter 2")
    doors.tell("listening")
    changer.append("Lists", letter(3))
    until(b"* STATUS Lists (MESSAGES 2 UIDNEXT 3 ")
    changer.subscribe_folder("Lists")
    until(b'\\Subscribed) "/" Lists')
    changer.create_folder("Lists/deep")
    until(b'"/" Lists/deep')
    changer.rename_folder("Lists", "Liste")
    until(b'"/" Liste ("OLDNAME" (Lists))')
    changer.select_folder("INBOX")
    changer.delete_messages([1])
    until(b"* 1 FETCH (UID 1 FLAGS (\\Deleted))")
    changer.expunge()
    until(b"* 1 EXPUNGE")
    status, text, _ = command(watcher, "NOTIFY", "SET", "(PERSONAL (Sunrise))")
    assert status == "NO" and text.startswith("[BADEVENT (MessageNew "), text
    good(watcher, "NOTIFY", "NONE")
    changer.append("INBOX", letter(4))
    assert "EXISTS" not in good(watcher, "NOOP")[1]
    ok(watcher.select("Liste"))
    assert ok(watcher.search(None, "ALL")) == [b"1 2"]
    assert watcher.logout()[0] == "BYE"


def moves(doors):
    """MOVE (RFC 6851) and UIDPLUS (RFC 4315)."""
    one, other = doors.imapclient(0), doors.imapclient(1)
    one.create_folder("Archive")
    for n in range(1, 8):
        answer = one.append("INBOX", letter(n), [b"\\Seen"])
        assert f" {n}]".encode() in answer, answer
    one.select_folder("INBOX")
    other.select_folder("INBOX")
    one.move([2, 4, 6], "Archive")
    other.noop()
    assert other.search() == [1, 3, 5, 7]
    one.copy([1], "Archive")
    other.select_folder("Archive")
    assert other.search() == [1, 2, 3, 4]
    bodies = other.fetch("1:*", ["BODY.PEEK[]", "FLAGS"])
    assert [bodies[u][b"BODY[]"] for u in (1, 2, 3, 4)] == [letter(n) for n in (2, 4, 6, 1)]
    assert all(b"\\Seen" in bodies[u][b"FLAGS"] for u in bodies)
    # Several at once (RFC 3502), as imapclient says it.
    one.multiappend("Archive", [letter(8), {"msg": letter(9), "flags": ["\\Draft"]}, letter(10)])
    other.noop()
    assert other.search() == [1, 2, 3, 4, 5, 6, 7]
    assert other.get_flags([6])[6] == (b"\\Draft",)
    # Only the uids that are named go, whatever else is marked.
    one.delete_messages([1, 3])
    one.uid_expunge([3, 5])
    assert one.search() == [1, 5, 7]


def special(doors):
    """SPECIAL-USE and CREATE-SPECIAL-USE (RFC 6154)."""
    one = doors.imaplib(0)
    for name, use in [("Sent", "\\Sent"), ("Papierkorb", "\\Trash"), ("Entwürfe", "\\Drafts")]:
        mailbox = {"Entwürfe": "Entw&APw-rfe"}.get(name, name)
        good(one, "CREATE", mailbox, f"(USE ({use}))")
    client = doors.imapclient(1)
    assert client.find_special_folder(b"\\Sent") == "Sent"
    assert client.find_special_folder(b"\\Trash") == "Papierkorb"
    assert client.find_special_folder(b"\\Drafts") == "Entwürfe"
    assert client.find_special_folder(b"\\Junk") is None
    text, said = good(one, "LIST", '(SPECIAL-USE)', '""', '"*"', "RETURN (SUBSCRIBED STATUS (MESSAGES))")
    assert len(said["LIST"]) == 3 and len(said["STATUS"]) == 3, said
    assert command(one, "CREATE", "x", "(USE (\\Nonsense))")[1].startswith("[USEATTR]")
    # Of a mailbox that exists, as Roundcube says it.
    ok(one.create("Werbung"))
    entry = "/private/specialuse"
    good(one, "SETMETADATA", "Werbung", f'({entry} "\\\\Junk")')
    assert doors.imapclient(2).find_special_folder(b"\\Junk") == "Werbung"
    for name, value in [("Werbung", b'"\\\\Junk"'), ("Sent", b'"\\\\Sent"'), ("INBOX", b"NIL")]:
        text, said = good(one, "GETMETADATA", name, entry)
        assert said["METADATA"] == [b"%s (/private/specialuse %s)" % (name.encode(), value)], said
    assert command(one, "SETMETADATA", "Werbung", f'({entry} "\\\\Nonsense")')[0] == "NO"
    good(one, "SETMETADATA", "Werbung", f"({entry} NIL)")
    assert doors.imapclient(2).find_special_folder(b"\\Junk") is None


def sorting(doors):
    """SORT and THREAD (RFC 5256), SEARCH in charsets, ESEARCH, SEARCHRES, PARTIAL."""
    one = doors.imapclient(0)
    subjects = ["pear", "Äpfel", "fig", "Re: pear"]
    for n, subject in enumerate(subjects, 1):
        message = letter(n, subject)
        if subject.startswith("Re:"):
            message = message.replace(b"\r\n\r\n", b"\r\nIn-Reply-To: <letter-1@example.org>\r\n\r\n", 1)
        one.append("INBOX", message)
    other = doors.imapclient(1, "INBOX")
    # An A with an accent is an A (RFC 5051), in one character or in two.
    assert other.sort("SUBJECT") == [2, 3, 1, 4], other.sort("SUBJECT")
    assert other.sort(["REVERSE DATE"]) == [4, 3, 2, 1]
    assert sorted(other.thread("REFERENCES")) == [(1, 4), (2,), (3,)], other.thread("REFERENCES")
    assert other.search(["SUBJECT", "ÄPFEL"], charset="UTF-8") == [2]
    assert other.search(["SUBJECT", "a\u0308pfel"], charset="UTF-8") == [2]
    assert other.search(["NOT", "SUBJECT", "pear"]) == [2, 3]
    raw = doors.imaplib(2)
    ok(raw.select("INBOX"))
    raw.literal = "äpfel".encode("iso-8859-1")
    refused = command(raw, "UID", "SEARCH", "CHARSET", "ISO-8859-1", "SUBJECT")
    assert refused[1].startswith("[BADCHARSET"), refused
    text, said = good(raw, "UID", "SEARCH", "RETURN", "(MIN MAX COUNT SAVE)", "SUBJECT", "pear")
    assert b"MIN 1 MAX 4 COUNT 2" in said["ESEARCH"][0], said
    assert len(ok(raw.uid("FETCH", "$", "(FLAGS)"))) == 2
    text, said = good(raw, "UID", "SEARCH", "RETURN", "(PARTIAL 2:3)", "ALL")
    assert b"PARTIAL (2:3 2:3)" in said["ESEARCH"][0], said
    text, said = good(raw, "UID", "SEARCH", "RETURN", "(SAVE MIN PARTIAL -1:-1)", "ALL")
    assert len(ok(raw.uid("FETCH", "$", "(FLAGS)"))) == 2
    text, said = good(raw, "UID", "FETCH", "1:*", "(FLAGS)", "(PARTIAL -1:-3 CHANGEDSINCE 1)")
    assert [row.split()[0] for row in said["FETCH"]] == [b"2", b"3", b"4"], said
    text, said = good(raw, "UID", "SORT", "(ARRIVAL)", "UTF-8", "MODSEQ", "1")
    assert said["SORT"][0].startswith(b"1 2 3 4 (MODSEQ "), said


def annotations(doors):
    """METADATA (RFC 5464), QUOTA (RFC 9208), and items that few ask for."""
    one, other = doors.imaplib(0), doors.imapclient(1)
    good(one, "SETMETADATA", "INBOX", '(/private/comment "mine" /shared/comment "ours")')
    good(one, "SETMETADATA", '""', '(/shared/admin "root@example.org")')
    two = doors.imaplib(1)
    text, said = good(two, "GETMETADATA", "INBOX", "(/private/comment /shared/comment)")
    assert said["METADATA"] == [b'INBOX (/private/comment "mine" /shared/comment "ours")'], said
    text, said = good(two, "GETMETADATA", '""', "/shared/admin")
    assert said["METADATA"] == [b'"" (/shared/admin "root@example.org")'], said
    ok(one.append("INBOX", None, None, letter(1, octets=5000)))
    _, quotas = other.get_quota_root("INBOX")
    used = {quota.resource: quota.usage for quota in quotas}
    assert used["MESSAGE"] == 1 and 4 <= used["STORAGE"] <= 6, quotas
    other.select_folder("INBOX")
    items = other.fetch([1], ["EMAILID", "THREADID", "SAVEDATE", "PREVIEW", "BINARY.SIZE[1]"])[1]
    assert items[b"PREVIEW"].startswith(b"This is letter 1."), items
    assert items[b"EMAILID"] and items[b"THREADID"], items
    body = other.fetch([1], ["ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE"])[1]
    assert body[b"ENVELOPE"].subject == b"letter 1", body
    assert body[b"BODYSTRUCTURE"][0:2] == (b"text", b"plain") or body[b"BODYSTRUCTURE"][0].lower() == b"text", body
    age = abs(datetime.datetime.now() - body[b"INTERNALDATE"])
    assert age < datetime.timedelta(minutes=5), age
    # Raw octets in the charset of the text, and more recipients than a summary holds.
    many = ", ".join(f"friend{n}@example.org" for n in range(250)).encode()
    header = b"Subject: \xe6\xe4\xd5\xbe\r\nTo: " + many + b"\r\nContent-Type: text/plain; charset=gbk\r\n"
    other.append("INBOX", header + b"\r\ntext\r\n")
    other.noop()
    envelope = other.fetch([2], ["ENVELOPE"])[2][b"ENVELOPE"]
    assert envelope.subject == b"=?UTF-8?B?6am/56uZ?=" and len(envelope.to) == 250, envelope


if __name__ == "__main__":
    main(globals())
