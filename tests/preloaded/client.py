"""Stands under mpirun for a rank that a server forks: see launch.py.

Usage: ``client.py SOCKET PROGRAM ARGUMENT ...``.  Hands signals on, and ends as the rank does.
"""

import contextlib
import json
import os
import signal
import socket
import sys

HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

# Those that come before there is a rank wait for it.
signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
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
rank = int(connection.recv(64) or 0)


def hand_on(number: int, frame: object) -> None:
    """To the rank, if it is there still."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(rank, number)


for number in HANDED_ON if rank else ():
    signal.signal(number, hand_on)
signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
status = connection.recv(64)
code = os.waitstatus_to_exitcode(int(status)) if status else 1
if code < 0:
    if -code in HANDED_ON:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
