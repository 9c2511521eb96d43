"""Processes on a pseudo-terminal, and what they leave on its screen."""

import contextlib
import os
import re
import select
import struct
import subprocess
import sys
import time

_SEQUENCE = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])")


def on_terminal(code, *, width=80, seconds=240):
    """Run Python code on a terminal; return its output."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    size = struct.pack("HHHH", 50, width, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm"},
    )
    os.close(theirs)
    chunks, deadline = [], time.monotonic() + seconds
    with contextlib.suppress(OSError):  # the other end is closed
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                chunks.append(os.read(ours, 65536))
                if not chunks[-1]:
                    break
    os.close(ours)
    if process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
    process.kill()
    process.wait()
    return b"".join(chunks).decode()


def screen(output):
    """Return the lines that remain after carriage returns and erasing."""
    lines, row, column = [""], 0, 0
    for piece in re.split(r"(\x1b\[\??[0-9;]*[A-Za-z]|\r|\n)", output):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append("")
        elif match := _SEQUENCE.fullmatch(piece):
            number, kind = match.groups()
            if kind == "K":
                lines[row] = "" if number == "2" else lines[row][:column]
            elif kind == "A":
                row = max(0, row - int(number or 1))
        elif piece:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + piece + line[column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in lines if line.strip()]


def shown(output):
    """Return all lines that were ever on the screen, in order, each once."""
    plain = _SEQUENCE.sub("", output)
    return list(dict.fromkeys(x for x in re.split(r"[\r\n]+", plain) if x.strip()))
