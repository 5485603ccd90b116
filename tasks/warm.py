"""Heavy libraries imported once a cycle: stages are forks of a process that holds them.

Importing torch, transformers and lm-eval is most of a short stage, and a cycle has a dozen. This process imports them once, holds
nothing of ours, and forks for each stage, so the fork imports the very code that DVC hashed. ``python -m tasks.X`` asks for
a fork where ``REDISTILL_WARM`` names the socket, and runs by itself everywhere else; dvc.yaml does not know of it.

Only third-party modules may be imported here at any time: one of ours would be the cycle's first version of it, for good.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any, NoReturn

SOCKET = "REDISTILL_WARM"
PRELOAD = ("torch", "transformers.trainer", "transformers.models.auto.modeling_auto", "lm_eval.models.huggingface", "lm_eval.evaluator")
_PATIENCE_S = 10.0
_PR_SET_PDEATHSIG = 1


class Warm:
    """Starts the process when the first stage asks and ends it with the cycle. Without Linux, stages simply start cold."""

    def __init__(self, preload: tuple[str, ...] = PRELOAD) -> None:
        self._preload = preload
        self._folder: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """The stage's environment, with the socket in it where there is one."""
        if not hasattr(os, "pidfd_open"):
            return base
        if self._process is None:
            self._folder = tempfile.mkdtemp(prefix="redistill-")
            # A CUDA context does not survive a fork, and asking whether there is a GPU makes one, unless the driver's library is asked.
            # Source: PyTorch, CUDA environment variables.
            quiet = {**base, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
            command = [sys.executable, "-m", "tasks.warm", f"{self._folder}/s", *self._preload]
            self._process = subprocess.Popen(
                command, env=quiet, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        return {**base, SOCKET: f"{self._folder}/s"}

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def die_with_parent() -> None:
    """End with the process that started us: a killed flow must not leave a training run behind (Linux; best effort)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def elsewhere() -> int | None:
    """Run this very command in a fork of the warm process and return its exit code; None where there is no such process."""
    path = os.environ.get(SOCKET)
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if not path or spec is None:
        return None
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(path)
        except OSError:
            return None
        environment = {k: v for k, v in os.environ.items() if k != SOCKET}
        request = {"module": spec.name, "argv": sys.argv, "cwd": os.getcwd(), "environment": environment}
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            socket.send_fds(link, [b"\n"], [0, 1, 2])
            link.sendall(json.dumps(request).encode() + b"\n")
            answer = link.makefile("rb").readline()
        except OSError:
            answer = b""
    if not answer:
        print(
            "error: the process that ran this stage ended; run again, and look at the machine's memory if it happens twice", file=sys.stderr
        )
        return 5
    return int(answer)


def serve(path: str, preload: list[str]) -> None:
    """Listen, import, then fork for whoever asks until terminated; who asks early waits for the imports."""
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen(8)
        for name in preload:
            # What is not installed, or broken, is the stage's to complain about, if it needs it.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        selector.register(listener, selectors.EVENT_READ)
        children: set[_Child] = set()
        while True:
            for key, _ in selector.select(1.0 if any(c.deadline for c in children) else None):
                child: _Child | None = key.data
                if child is None:
                    children |= _accept(listener, selector)
                elif child not in children:
                    continue  # ended in this very round
                elif key.fileobj is child.link:
                    # Nothing more is ever sent: readable means that who asked is gone, and the stage goes too.
                    selector.unregister(child.link)
                    child.send(signal.SIGTERM)
                    child.deadline = time.monotonic() + _PATIENCE_S
                else:
                    _ended(child, selector)
                    children.remove(child)
            for child in children:
                if child.deadline and time.monotonic() > child.deadline:
                    child.send(signal.SIGKILL)


class _Child:
    """A stage at work: its process, the connection of who asked for it, and until when it may still tidy up."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.pid = pid
        self.link = link
        self.handle = os.pidfd_open(pid)
        self.deadline: float | None = None

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> set[_Child]:
    """Fork for who asks; nobody, where they were gone before they had said what they want."""
    link, _ = listener.accept()
    link.settimeout(_PATIENCE_S)
    descriptors: list[int] = []
    try:
        _, descriptors, _, _ = socket.recv_fds(link, 1, 3)
        with link.makefile("rb") as stream:
            request = json.loads(stream.readline())
    except (OSError, ValueError):
        for descriptor in descriptors:
            os.close(descriptor)
        link.close()
        return set()
    link.settimeout(None)
    pid = os.fork()
    if pid == 0:
        selector.close()
        listener.close()
        link.close()
        _become(request, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    child = _Child(pid, link)
    selector.register(link, selectors.EVENT_READ, child)
    selector.register(child.handle, selectors.EVENT_READ, child)
    return {child}


def _ended(child: _Child, selector: selectors.BaseSelector) -> None:
    _, status = os.waitpid(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    selector.unregister(child.handle)
    os.close(child.handle)
    with contextlib.suppress(KeyError):
        selector.unregister(child.link)
    with contextlib.suppress(OSError):
        child.link.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
    child.link.close()


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be the process that asked: its files, folder, environment and command."""
    code = 1
    try:
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = request["argv"]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    die_with_parent()
    serve(sys.argv[1], sys.argv[2:])
