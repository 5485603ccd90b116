"""Asks a fork server for a fork, and gets its exit code: over a socket, with the standard streams of the fork as descriptors."""

from __future__ import annotations

import json
import os
import socket
import sys

SOCKET = "REDISTILL_WARM"
"""The variable that names the socket of the server."""


def request(
    path: str, module: str, arguments: list[str], environment: dict[str, str], descriptors: list[int], cwd: str = ""
) -> socket.socket | None:
    """Ask the server at ``path`` for a fork that runs ``python -m MODULE`` in ``cwd`` (by default ours), with ``descriptors`` as its standard streams.

    Returns the connection, on which the exit code will come and whose end ends the fork; None where there is no such server.
    """
    link = socket.socket(socket.AF_UNIX)
    message = {"module": module, "argv": [module, *arguments], "cwd": cwd or os.getcwd(), "environment": environment}
    try:
        link.connect(path)
        socket.send_fds(link, [b"\n"], descriptors)
        link.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        link.close()
        return None
    return link


def exit_code(link: socket.socket) -> int | None:
    """Wait for the exit code of a requested fork; None where the server ended first."""
    try:
        with link.makefile("rb") as stream:
            answer = stream.readline()
    except OSError:
        answer = b""
    return int(answer) if answer else None


def in_fork(module: str, arguments: list[str]) -> int | None:
    """Run ``python -m MODULE`` with our own standard streams in a fork of the server; its exit code, or None where there is no server."""
    path = os.environ.get(SOCKET)
    if not path:
        return None
    sys.stdout.flush()
    sys.stderr.flush()
    # With the socket in it: a stage that trains in several processes requests a fork for each.
    link = request(path, module, arguments, dict(os.environ), [0, 1, 2])
    if link is None:
        return None
    with link:
        code = exit_code(link)
    if code is None:
        print(
            "error: the process that ran this stage was ended from outside; run again, and check the machine's memory if it happens twice",
            file=sys.stderr,
        )
        return 5
    return code
