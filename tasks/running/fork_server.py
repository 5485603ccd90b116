"""A fork server: heavy libraries are imported once a cycle, and DVC's calls and stages are forks of the process that holds them.

Importing torch, transformers and lm-eval is most of a short stage, importing DVC most of a ``dvc repro``, and a cycle has a dozen of
both. The server's process (``forking_process``) imports them once and forks for each request. ``tasks.running.run_stage`` asks for a fork where
``REDISTILL_WARM`` names the socket, and runs the stage by itself everywhere else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from tasks.running.fork_request import SOCKET, exit_code, request
from tasks.running.streamed import LAST_LINES, PATIENCE_S, Stoppable, streamed

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
            command = [sys.executable, "-m", "tasks.running.forking_process", f"{self._folder}/s", str(self._patience_s), *self._preload]
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
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


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


def _streamed_fork(
    environment: dict[str, str], module: str, arguments: list[str], hear: Callable[[str], None], stoppable: Stoppable
) -> tuple[int, deque[str]] | None:
    """As ``streamed``, in a fork; None where the server cannot be reached, and then nothing was run."""
    lines: deque[str] = deque(maxlen=LAST_LINES)
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


def _wait_for_socket(path: str, process: subprocess.Popen[bytes]) -> None:
    """Until the server listens, which it does before its imports."""
    deadline = time.monotonic() + PATIENCE_S
    while not os.path.exists(path) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
