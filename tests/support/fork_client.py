"""Stands for a process that :mod:`tests.support.fork_server` forks: hands its streams over and ends with it.

It is run as a file where a test starts it, so that starting it takes no import of a package.
"""

import json
import os
import socket
import sys
from typing import NoReturn


def become(kind: str, address: str) -> NoReturn:
    """Asks the server at this address for a process of a kind, and ends as that process does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        wanted = {"kind": kind, "environment": dict(os.environ), "folder": os.getcwd()}
        text = json.dumps(wanted).encode() + b"\n"
        sent = socket.send_fds(connection, [text], [0, 1, 2])
        connection.sendall(text[sent:])
        for stream in (0, 1, 2):  # the process's end of them is the end
            os.close(stream)
        said = b""
        while part := connection.recv(64):
            said += part
    code = int(said or b"1")
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    become("replica", sys.argv[1])
