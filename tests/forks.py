"""Commands as forks of one process that holds the heavy libraries (``tests.fork_servers``), so that a test does not pay for imports at each command.

What runs is the project's code, imported fresh in each fork; only third-party modules are there beforehand.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.running import fork_request


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Running:
    """A fork at work, with as much of ``subprocess.Popen`` as tests use. Its id is also that of its process group."""

    def __init__(self, link: socket.socket, output: int) -> None:
        self.stdout = open(output, encoding="utf-8", errors="replace")  # noqa: SIM115
        self.returncode: int | None = None
        self._link = link
        self.pid = _fork_that_writes_to(output, link)

    def wait(self, timeout: float = 600.0) -> int:
        """Its exit code; 128 and the number of the signal where a signal ended it."""
        if self.returncode is None:
            self._link.settimeout(timeout)
            self.returncode = fork_request.exit_code(self._link)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout)
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self.wait() if self.returncode is not None or _readable(self._link) else None

    def communicate(self, timeout: float = 600.0) -> tuple[str, None]:
        """What is still to come of its output, to its end.

        Raises:
            subprocess.TimeoutExpired: it is still at work after ``timeout`` seconds; it is killed then.
        """
        watchdog = threading.Timer(timeout, self._kill)
        watchdog.daemon = True
        watchdog.start()
        begun = time.monotonic()
        try:
            rest = self.stdout.read()
        finally:
            watchdog.cancel()
        if time.monotonic() - begun >= timeout:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout)
        self.wait(timeout)
        return rest, None

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """The server ends a fork whose caller is gone."""
        self._link.close()
        self.stdout.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _readable(link: socket.socket) -> bool:
    """All that a server sends is an exit code, at the end."""
    return bool(select.select([link], [], [], 0)[0])


def _server_of(link: socket.socket) -> psutil.Process:
    """The process at the other end of a connection."""
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return psutil.Process(pid)


def _fork_that_writes_to(pipe: int, link: socket.socket, timeout_s: float = 60.0) -> int:
    """The server does not say which fork is whose, but only one has this pipe as its standard output. What that one requests comes after it."""
    server, name, deadline = _server_of(link), f"pipe:[{os.fstat(pipe).st_ino}]", time.monotonic() + timeout_s
    while time.monotonic() < deadline and not _readable(link):
        for child in sorted(server.children(), key=lambda process: process.create_time()):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{child.pid}/fd/1") == name:
                    return child.pid
        time.sleep(0.01)
    raise AssertionError("the process was not started, or has ended already: what ends at once needs no process id")


@dataclass(frozen=True)
class ForkServer:
    """Two servers, as in a real cycle: commands have Prefect and MLflow, which set up logging their own way, and stages have neither.

    ``run`` and ``start`` take ``python -m MODULE ARGUMENT ...``; the stages of a command are forks too. ``server`` is the address of the one that forks,
    by default that of commands for ``redistill`` and that of stages for anything else.
    """

    commands: str
    stages: str

    def run(
        self,
        module: str,
        *arguments: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        server: str | None = None,
        timeout_s: float = 600.0,
    ) -> Done:
        """To its end, with what it wrote."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with self._request(module, arguments, cwd, env, server, out.fileno(), err.fileno()) as link:
                link.settimeout(timeout_s)
                code = fork_request.exit_code(link)
            out.seek(0)
            err.seek(0)
            said, complained = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        assert code is not None, f"no exit code of {module} within {timeout_s:.0f} s; it wrote: {complained[-3000:]}"
        return Done(code, said, complained)

    def start(
        self, module: str, *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, server: str | None = None
    ) -> Running:
        """A process that the test may send signals to, with its output as it comes."""
        read, write = os.pipe()
        try:
            link = self._request(module, arguments, cwd, env, server, write, write)
        finally:
            os.close(write)
        return Running(link, read)

    def _request(
        self,
        module: str,
        arguments: tuple[str, ...],
        cwd: Path | None,
        env: dict[str, str] | None,
        server: str | None,
        out: int,
        err: int,
    ) -> socket.socket:
        environment = {fork_request.SOCKET: self.stages, **(dict(os.environ) if env is None else env)}
        address = server or (self.commands if module == "redistill" else self.stages)
        with open(os.devnull, "rb") as nothing:
            streams = [nothing.fileno(), out, err]
            link = fork_request.request(address, module, list(arguments), environment, streams, str(cwd or Path.cwd()))
        assert link is not None, "the fork server has ended"
        return link
