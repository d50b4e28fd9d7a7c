"""A client of the Task API, without any library: what benches/verbs.py measures with, so that no client's own time is in it.

ttrpc: a header of 10 bytes (length, stream, type, flags) and a message, over a Unix socket. The messages are protobuf, of which
the Task API needs strings, numbers and messages in messages here.
"""

import json
import socket
import struct

REQUEST, RESPONSE = 1, 2
TYPES = "types.containerd.io/opencontainers/runtime-spec/1/"


class Failed(Exception):
    """What the server said."""


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(*fields):
    """Protobuf of (number, value): a string, bytes, a number or a truth value. What is empty is left out, as protobuf says."""
    out = bytearray()
    for number, value in fields:
        if not value:
            continue
        if isinstance(value, int):
            out += varint(number << 3) + varint(int(value))
        else:
            content = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(content)) + content
    return bytes(out)


def fields(content):
    """(number, value) of each field; fixed-size fields are not in what is read here."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(content):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        elif key & 7 == 2:
            length = number()
            yield key >> 3, content[at:at + length]
            at += length
        else:
            raise Failed(f"a field of wire type {key & 7}")


def any_of(kind, value):
    """A protobuf Any with JSON, as containerd packs parts of the OCI spec."""
    return message((1, TYPES + kind), (2, json.dumps(value)))


class Task:
    """The Task API of one shim, about one container."""

    def __init__(self, address, name):
        self.name = name
        self.stream = 1
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address.removeprefix("unix://"))

    def close(self):
        self.socket.close()

    def read(self, length):
        content = b""
        while len(content) < length:
            part = self.socket.recv(length - len(content))
            if not part:
                raise Failed("the shim has closed the connection")
            content += part
        return content

    def call(self, method, *values):
        """One request, and the payload of its response."""
        request = message((1, "containerd.task.v3.Task"), (2, method), (3, message((1, self.name), *values)))
        self.socket.sendall(struct.pack(">IIBB", len(request), self.stream, REQUEST, 0) + request)
        self.stream += 2
        length, _, kind, _ = struct.unpack(">IIBB", self.read(10))
        if kind != RESPONSE:
            raise Failed(f"{method}: a message of type {kind}")
        response = dict(fields(self.read(length)))
        status = dict(fields(response.get(1, b"")))
        if status.get(1):
            raise Failed(f"{method}: {status.get(2, b'').decode()}")
        return response.get(2, b"")

    def pause(self):
        self.call("Pause")

    def resume(self):
        self.call("Resume")

    def stats(self):
        return self.call("Stats")

    def pids(self):
        return self.call("Pids")

    def update(self, resources):
        self.call("Update", (2, any_of("LinuxResources", resources)))

    def exec(self, exec_id, process, terminal=False, stdin="", stdout="", stderr=""):
        """Makes a process and starts it."""
        streams = (4, stdin), (5, stdout), (6, stderr)
        self.call("Exec", (2, exec_id), (3, terminal), *streams, (7, any_of("Process", process)))
        self.call("Start", (2, exec_id))

    def wait(self, exec_id):
        """Its exit status."""
        return dict(fields(self.call("Wait", (2, exec_id)))).get(1, 0)

    def kill(self, exec_id, signal):
        self.call("Kill", (2, exec_id), (3, signal))

    def delete(self, exec_id):
        self.call("Delete", (2, exec_id))
