"""A command that shows what a component sees of its container: app COMMAND WORD …

Everything that is imported here is imported when the component is built: at run time there is no other Python library.
"""

import encodings.idna  # socket asks for it when it looks a name up
import os
import socket
import sys
import time

from wit_world import exports
from wit_world.imports.exit import exit_with_code


def show(*words):
    """What the container was told."""
    print("arguments:", " ".join(words))
    print("greeting:", os.environ.get("GREETING", ""))
    print("directory:", os.getcwd())
    return 0


def read(path):
    with open(path) as file:
        print(file.read(), end="")
    return 0


def write(path, text):
    with open(path, "a") as file:
        print(text, file=file)
    return 0


def copy():
    """Standard input to standard output."""
    for line in sys.stdin:
        print(line, end="")
    return 0


def code(number):
    return int(number)


def allocate(mebibytes):
    held = []
    for _ in range(int(mebibytes)):
        held.append(bytearray(1 << 20))
    print("allocated:", len(held))
    return 0


def wait():
    print("ready", flush=True)
    while True:
        time.sleep(3600)


def fetch(host, port):
    """The first line that a server of HTTP answers."""
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        print("answer:", connection.makefile().readline().strip())
    return 0


COMMANDS = {each.__name__: each for each in (show, read, write, copy, code, allocate, wait, fetch)}


class Run(exports.Run):
    """What the component exports: wasi:cli/run."""

    def run(self):
        command, *words = sys.argv[1:] or [""]
        if command not in COMMANDS:
            print(f"usage: app {'|'.join(COMMANDS)} [WORD ...]", file=sys.stderr)
            exit_with_code(2)
        try:
            status = COMMANDS[command](*words)
        except (OSError, MemoryError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            status = 1
        sys.stdout.flush()
        exit_with_code(status)
