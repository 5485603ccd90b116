"""A fork server: heavy libraries are imported once a cycle, and DVC's calls and stages are forks of the process that holds them.

Importing torch, transformers and lm-eval is most of a short stage, importing DVC most of a ``dvc repro``, and a cycle has a dozen of
both. This process imports them once and forks for each request. ``tasks.running.run_stage`` asks for a fork where ``REDISTILL_WARM`` names the
socket, and runs the stage by itself everywhere else.

Preload third-party modules only: a fork would run a stale version of any module of the project.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
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
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any, NoReturn

SOCKET = "REDISTILL_WARM"
# DVC first, because a cycle calls it before its first stage. Requests are served between two imports. DVC's command line is built with all of its
# commands, and what a `dvc repro` imports on its way is a fifth of its time.
PRELOAD = (
    "pydantic.dataclasses",
    "dvc.cli",
    "dvc.cli.parser:get_main_parser",
    "dvc.repo.reproduce",
    "dvc.repo.index",
    "dvc.repo.stage",
    "dvc.repo.datasets",
    "dvc.repo.artifacts",
    "dvc.repo.metrics",
    "dvc.repo.params",
    "dvc.repo.plots",
    "dvc.repo.open_repo",
    "dvc.utils.strictyaml",
    "dvc.cachemgr",
    "dvc.data_cloud",
    "dvc.daemon",
    "dvc.lock",
    "dvc.rwlock",
    "dvc.scm",
    "configobj",
    "pyarrow.parquet",
    "torch",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "lm_eval.models.huggingface",
    "lm_eval.evaluator",
)
TRIAL = ("pyarrow.parquet", "torch", "transformers.trainer", "transformers.models.auto.modeling_auto", "optuna")
"""What a trial of a search imports."""
_PATIENCE_S = 10.0
_LAST_LINES = 30
_PR_SET_PDEATHSIG = 1
_END_S = 4


class ForkServer:
    """Starts the server for the first stage and ends it with the cycle. On systems other than Linux, every stage starts without it.

    If the environment names a server already, that server is used and is not ended here.
    """

    def __init__(self, preload: tuple[str, ...] = PRELOAD, patience_s: float = 10.0) -> None:
        """``preload``: modules, or ``MODULE:FUNCTION`` for what a library keeps after a first call. ``patience_s``: how long a fork whose caller has ended may tidy up before it is killed."""
        self._preload = preload
        self._patience_s = patience_s
        self._folder: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._running = set[Callable[[], None]]()
        self._stopped = False

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """The stage's environment, with the socket in it where there is one."""
        if not hasattr(os, "pidfd_open") or base.get(SOCKET):
            return base
        with self._lock:
            self._start(base)
        return {**base, SOCKET: f"{self._folder}/s"}

    def _start(self, base: dict[str, str]) -> None:
        if self._process is None:
            self._folder = tempfile.mkdtemp(prefix="redistill-")
            # A CUDA context does not survive a fork, and asking whether there is a GPU makes one, unless the driver's library is asked.
            # Source: PyTorch, CUDA environment variables.
            quiet = {**base, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
            command = [sys.executable, "-m", "tasks.running.fork_server", f"{self._folder}/s", str(self._patience_s), *self._preload]
            self._process = _started_by_a_lasting_thread(command, quiet)
            _wait_for_socket(f"{self._folder}/s", self._process)

    def streamed(self, module: str, arguments: list[str], base: dict[str, str], hear: Callable[[str], None]) -> tuple[int, deque[str]]:
        """Run ``python -m MODULE`` as a fork where there is a server, else in a process of its own.

        ``hear`` gets its lines as they come. Returns the exit code and the last lines. What was started ends when we end, or when another thread calls ``stop``.
        """
        environment = self.environment(base)
        if environment.get(SOCKET):
            heard = _streamed_fork(environment, module, arguments, hear, self._stoppable)
            if heard is not None:
                return heard
        return streamed(["-m", module, *arguments], environment, hear, self._stoppable, self._patience_s)

    def stop(self) -> None:
        """End everything that runs now, and whatever is started later. Each caller gets the exit code of its own process."""
        with self._lock:
            self._stopped = True
            for end in self._running:
                end()

    @contextlib.contextmanager
    def _stoppable(self, end: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._running.add(end)
            if self._stopped:
                end()
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(end)

    def __enter__(self) -> ForkServer:
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


Stoppable = Callable[[Callable[[], None]], contextlib.AbstractContextManager[None]]
"""A context manager that is given the function which ends a process, and holds it while that process runs."""


def _not_stoppable(_: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _started_by_a_lasting_thread(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the server from a thread that lives as long as the server.

    The kernel ends the server when the *thread* that started it ends (``PR_SET_PDEATHSIG``), and a thread of a pool may end long before the cycle.
    """
    started: SimpleQueue[subprocess.Popen[bytes] | OSError] = SimpleQueue()

    def hold() -> None:
        try:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        process.wait()

    threading.Thread(target=hold, name="redistill-fork-server", daemon=True).start()
    found = started.get()
    if isinstance(found, OSError):
        raise found
    return found


def streamed(
    arguments: list[str],
    environment: dict[str, str],
    hear: Callable[[str], None],
    stoppable: Stoppable = _not_stoppable,
    patience_s: float = _PATIENCE_S,
) -> tuple[int, deque[str]]:
    """Run Python in a process group of its own; ``hear`` gets its lines as they come. Exit code and last lines; the group ends with us.

    What is still alive ``patience_s`` after it was asked to end is killed.
    """
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )

    over = threading.Event()

    def send(number: signal.Signals) -> None:
        # After the process has ended, its id may belong to another one.
        if not over.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def end() -> None:
        send(signal.SIGTERM)
        killing = threading.Timer(patience_s, send, [signal.SIGKILL])
        killing.daemon = True
        killing.start()

    try:
        assert process.stdout is not None
        with process.stdout as stream, stoppable(end):
            for raw in stream:
                lines.append(raw.rstrip())
                hear(lines[-1])
        over.set()
        return process.wait(), lines
    except BaseException:
        end()
        raise


def _streamed_fork(
    environment: dict[str, str], module: str, arguments: list[str], hear: Callable[[str], None], stoppable: Stoppable
) -> tuple[int, deque[str]] | None:
    """As ``streamed``, in a fork; None where the server cannot be reached, and then nothing was run."""
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    read, write = os.pipe()
    with open(read, encoding="utf-8", errors="replace") as stream, open(os.devnull, "rb") as nothing:
        try:
            # The server ends the fork when this connection closes.
            link = request(environment[SOCKET], module, arguments, environment, [nothing.fileno(), write, write])
        finally:
            os.close(write)
        if link is None:
            return None
        # The server ends the fork when we stop sending. Its exit code still comes back on the same connection.
        with link, stoppable(lambda: _stop_sending(link)):
            for raw in stream:
                lines.append(raw.rstrip())
                hear(lines[-1])
            code = exit_code(link)
    return 5 if code is None else code, lines


def _stop_sending(link: socket.socket) -> None:
    # Where the server has just ended by itself there is nobody left to tell.
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_WR)


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


def _wait_for_socket(path: str, process: subprocess.Popen[bytes]) -> None:
    """Until the server listens, which it does before its imports."""
    deadline = time.monotonic() + _PATIENCE_S
    while not os.path.exists(path) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def die_with_parent() -> None:
    """End with the process that started us: a killed flow must not leave a training run behind (Linux; best effort)."""
    signal.signal(signal.SIGTERM, _end)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(*_: object) -> None:
    """Leave as if by ``sys.exit``, within four seconds.

    Python drops an exception that is raised while a destructor runs, and the process would go on to its end. Then the alarm ends it.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_END_S)
    sys.exit(143)


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
                    _preloaded(waiting.popleft())


def _preloaded(name: str) -> None:
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
