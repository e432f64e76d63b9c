"""Stands for a replica's process: hands its streams to :mod:`tests.support.replica_server` and ends with the replica.

It is run as a file, so that starting it takes no import of a package.
"""

import json
import os
import socket
import sys

if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        wanted = json.dumps({"environment": dict(os.environ), "folder": os.getcwd()}).encode() + b"\n"
        sent = socket.send_fds(connection, [wanted], [0, 1, 2])
        connection.sendall(wanted[sent:])
        for stream in (0, 1, 2):  # the replica's end of them is the end
            os.close(stream)
        said = b""
        while part := connection.recv(64):
            said += part
    code = int(said or b"1")
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)
