#!/usr/bin/env python3
"""Makes the sample messages that are too large to be kept in the repository.

    generate.py DIR      writes them to DIR, the same octets on every machine

The octets come from SHA-256 in counter mode, so that they neither compress nor depend on the
version of Python.
"""

import base64
import hashlib
import pathlib
import sys


def octets(seed: str, count: int) -> bytes:
    """`count` octets that look random and never change."""
    blocks = (count + 31) // 32
    stream = b"".join(
        hashlib.sha256(f"{seed} {n}".encode()).digest() for n in range(blocks)
    )
    return stream[:count]


def head(name: str, content_type: str) -> bytes:
    lines = [
        "From: Ann Example <ann@example.org>",
        "To: Ben Sample <ben@example.net>",
        f"Subject: Generated: {name}",
        "Date: Wed, 8 Jan 2025 12:00:00 +0000",
        f"Message-ID: <{name}@mail.example.org>",
        "MIME-Version: 1.0",
        f"Content-Type: {content_type}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n"


def base64_lines(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def large_attachment(name: str, count: int) -> bytes:
    boundary = b"large-" + name.encode()
    return b"".join([
        head(name, f'multipart/mixed; boundary="{boundary.decode()}"'),
        b"\r\n--" + boundary + b"\r\nContent-Type: text/plain\r\n\r\nThe film is attached.\r\n",
        b"--" + boundary + b"\r\nContent-Type: video/mp4\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Disposition: attachment; filename=\"film.mp4\"\r\n\r\n",
        base64_lines(octets(name, count)),
        b"--" + boundary + b"--\r\n",
    ])


def large_text(name: str, lines: int) -> bytes:
    text = b"".join(
        b"%06d  The quick brown fox reads its mail for the %dth time.\r\n" % (n, n)
        for n in range(lines)
    )
    return head(name, "text/plain; charset=us-ascii") + b"\r\n" + text


def many_parts(name: str, parts: int) -> bytes:
    boundary = b"many"
    body = b"".join(
        b"--" + boundary + b"\r\nContent-Type: text/plain; name=\"part-%d.txt\"\r\n\r\n%d\r\n"
        % (n, n) for n in range(parts)
    )
    start = head(name, 'multipart/mixed; boundary="many"')
    return start + b"\r\n" + body + b"--" + boundary + b"--\r\n"


def exact(name: str, size: int) -> bytes:
    """A message of exactly `size` octets: limits are crossed by one octet or not at all."""
    start = head(name, "text/plain") + b"\r\n"
    line = b"x" * 76 + b"\r\n"
    rest = size - len(start)
    full, last = divmod(rest, len(line))
    # The last line takes what is left, so that the message still ends with CRLF.
    body = line * (full - 1) + b"y" * (len(line) + last - 2) + b"\r\n"
    assert len(start + body) == size
    return start + body


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    mebibyte = 1 << 20
    messages = {
        "60-large-attachment": large_attachment("60-large-attachment", 2_300_000),
        "61-large-text": large_text("61-large-text", 40_000),
        "62-many-parts": many_parts("62-many-parts", 3_000),
        "63-one-mebibyte": exact("63-one-mebibyte", mebibyte),
        "64-one-octet-more": exact("64-one-octet-more", mebibyte + 1),
    }
    for name, message in messages.items():
        (out / f"{name}.eml").write_bytes(message)


if __name__ == "__main__":
    main()
