"""The process of a fork server: imports heavy libraries once, and forks for each request (``python -m tasks.running.forking_process SOCKET PATIENCE_S MODULE...``).

It imports third-party modules and this folder only: a fork would run a stale version of any other module of the project.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from typing import Any, NoReturn

from tasks.running.die_with_parent import die_with_parent

_REQUEST_S = 10.0
"""How long a caller may take to send its request."""


def serve(path: str, patience_s: float, preload: list[str]) -> None:
    """Listen; import the modules of ``preload`` one by one, and fork for each request, until terminated.

    A request that comes during the imports is served between two of them: its fork imports what it needs beyond them itself.
    """
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        # Bound under another name first: a path that exists is one that listens.
        listener.bind(f"{path}.new")
        listener.listen(64)
        os.rename(f"{path}.new", path)
        selector.register(listener, selectors.EVENT_READ)
        waiting, children = deque(preload), set[_Child]()
        while True:
            for key, _ in selector.select(0.0 if waiting else 1.0 if any(c.deadline for c in children) else None):
                child: _Child | None = key.data
                if child is None:
                    children |= _accept(listener, selector)
                elif child not in children:
                    continue  # ended in this very round
                elif key.fileobj is child.link:
                    # The caller sends nothing more: readable means that it has ended, so its fork ends too.
                    selector.unregister(child.link)
                    child.send(signal.SIGTERM)
                    child.deadline = time.monotonic() + patience_s
                else:
                    _ended(child, selector)
                    children.remove(child)
            for child in children:
                if child.deadline and time.monotonic() > child.deadline:
                    child.send(signal.SIGKILL)
            if waiting:
                # A library that is not installed, or broken, is reported by the stage that needs it.
                with contextlib.suppress(Exception):
                    preload_one(waiting.popleft())


def preload_one(name: str) -> None:
    """Import a module, and call a function of it where one is named."""
    module, _, function = name.partition(":")
    imported = importlib.import_module(module)
    if function:
        getattr(imported, function)()


class _Child:
    """A fork at work: its process group, the connection of its caller, and until when it may still tidy up."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.pid = pid
        self.link = link
        self.handle = os.pidfd_open(pid)
        self.deadline: float | None = None

    def send(self, number: signal.Signals) -> None:
        """To the fork and to all that it started, as the end of a process group does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> set[_Child]:
    """Fork for a caller; nothing where it ended before its request was whole."""
    link, _ = listener.accept()
    link.settimeout(_REQUEST_S)
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
    # A collection in a fork would visit, and so copy, every page of the libraries.
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        _close_all(selector)
        link.close()
        _become(request, descriptors)
    # Parent and fork both set the group, as a shell does, so it exists before the first signal is sent to it.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    for descriptor in descriptors:
        os.close(descriptor)
    child = _Child(pid, link)
    selector.register(link, selectors.EVENT_READ, child)
    selector.register(child.handle, selectors.EVENT_READ, child)
    return {child}


def _close_all(selector: selectors.BaseSelector) -> None:
    """In a fork: close the listener and the connections of all other callers. Otherwise they would not notice the end of the server."""
    for key in list(selector.get_map().values()):
        if isinstance(key.fileobj, int):
            os.close(key.fileobj)
        else:
            key.fileobj.close()  # type: ignore[attr-defined]
    selector.close()


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
    """Take over the caller's streams, folder, environment and command line."""
    code = 1
    try:
        die_with_parent()
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        _import_from(request["cwd"], request["environment"])
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = list(request["argv"])
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            # What libraries send at the end, such as last log lines. The rest of an interpreter's end would only copy shared pages.
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _import_from(cwd: str, environment: dict[str, str]) -> None:
    """Set the import path as ``python -m`` there would, and forget this package, which may be another project's."""

    def listed(variables: Mapping[str, str]) -> list[str]:
        return [p for p in variables.get("PYTHONPATH", "").split(os.pathsep) if p]

    ours = {sys.path[0], *listed(os.environ)}
    sys.path[:] = [cwd, *listed(environment), *(p for p in sys.path if p not in ours)]
    package = str(__package__).partition(".")[0]
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        del sys.modules[name]


if __name__ == "__main__":
    die_with_parent()
    serve(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
