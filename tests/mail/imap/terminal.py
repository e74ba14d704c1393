"""A program in a terminal: types keys, and reads the screen.

    terminal.py DIR STEPS PROGRAM ARGUMENT...

STEPS is a JSON list. ["type", KEYS, TEXT] types and waits until TEXT (a regular expression) is on the
screen; ["tell", NAME] prints NAME and waits until DIR/NAME is there; ["end", KEYS] types and waits for
the program's good end. When something else comes, the end of what the program notes in DIR/debug0
is told, if it keeps such notes.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

ROWS, COLUMNS = 40, 120
PATIENCE = 60
# Lines of a program's notes that tell how it came to its end.
NOTES = 80
# What moves the cursor or changes colours; text stands between.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]|[\x00-\x08\x0b-\x1f]")


class Terminal:
    def __init__(self, program):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", LC_ALL="C.UTF-8")
            os.execvp(program[0], program)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def read(self, seconds):
        """What is written within this time, without control sequences; None: the program is gone."""
        out, end = b"", time.monotonic() + seconds
        while True:
            ready = select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]
            if not ready:
                return CONTROL.sub(" ", out.decode("utf-8", "replace"))
            try:
                piece = os.read(self.fd, 65536)
            except OSError:
                piece = b""
            if not piece:
                return CONTROL.sub(" ", out.decode("utf-8", "replace")) if out else None
            out += piece

    def type(self, keys, text):
        os.write(self.fd, keys.encode())
        screen, end = "", time.monotonic() + PATIENCE
        while time.monotonic() < end:
            screen = self.read(0.2)
            if screen is None:
                sys.exit(f"the program has ended after {keys!r}")
            if re.search(text, screen):
                return
            # The whole screen anew: only what has changed was written.
            os.write(self.fd, b"\x0c")
        sys.exit(f"no {text!r} after {keys!r}, but:\n{screen}")

    def end(self, keys):
        os.write(self.fd, keys.encode())
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.read(0.2) is not None:
            pass
        _, status = os.waitpid(self.pid, 0)
        if status:
            sys.exit(f"the program's status is {status}")


def notes(folder):
    try:
        with open(os.path.join(folder, "debug0"), errors="replace") as file:
            # Each look at the screen is noted too, and headers are of no interest.
            wanted = lambda line: line.startswith("[") and "OP_REDRAW" not in line
            lines = [line for line in file if wanted(line)]
        return "".join(lines[-NOTES:])
    except FileNotFoundError:
        return ""


def work(folder, steps, program):
    terminal = Terminal(program)
    for verb, *words in json.loads(steps):
        if verb == "type":
            terminal.type(*words)
        elif verb == "tell":
            print(words[0], flush=True)
            end = time.monotonic() + PATIENCE
            while not os.path.exists(os.path.join(folder, words[0])):
                if time.monotonic() > end:
                    sys.exit(f"nobody has answered to {words[0]}")
                time.sleep(0.01)
        else:
            terminal.end(*words)


def main(folder, steps, program):
    try:
        work(folder, steps, program)
    except SystemExit as end:
        sys.exit(f"{notes(folder)}{end}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
