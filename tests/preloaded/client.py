"""Stands under mpirun for a rank that a server forks: see launch.py.

Usage: ``client.py SOCKET PROGRAM ARGUMENT ...``.  Ends as the rank does.
"""

import json
import os
import socket
import sys

connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(sys.argv[1])
descriptors = [1, 2]
if "PMI_FD" in os.environ:  # how a rank talks to mpirun
    descriptors.append(int(os.environ["PMI_FD"]))
request = {
    "argv": sys.argv[2:],
    "environment": dict(os.environ),
    "folder": os.getcwd(),  # noqa: PTH109 (pathlib would take as long as all the rest)
    "descriptors": descriptors,
}
socket.send_fds(connection, [json.dumps(request).encode()], descriptors)
status = connection.recv(64)
code = os.waitstatus_to_exitcode(int(status)) if status else 1
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
