"""Stages as forks of a process that holds the heavy libraries: same output, same exit codes, and gone when who asked is gone."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from threading import Thread

import psutil
import pytest

from redistill.runtime.environment import child_environment
from tasks.running import fork_server, forking_process
from tasks.running.fork_request import SOCKET
from tasks.running.fork_server import ForkServer
from tests.tiny_project import make_tiny_project

PROBE = """
import json, os, signal, sys, time
held = "wave" in sys.modules
from redistill.errors import DataError

def probe(kind: str) -> None:
    print(json.dumps({"held": held, "folder": os.getcwd(), "colour": os.environ.get("COLOUR"), "pid": os.getpid()}), flush=True)
    if kind == "fail":
        raise DataError("seven rows are too few")
    if kind == "exit":
        sys.exit(9)
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while kind in ("hang", "deaf"):
        if kind == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(0.1)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_tiny_project(tmp_path)
    (tmp_path / "tasks" / "stages" / "probe.py").write_text(PROBE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def warm(project: Path) -> Iterator[dict[str, str]]:
    # A module of the standard library that nothing else imports stands for the heavy ones.
    with ForkServer(("a_library_that_is_not_installed", "wave"), patience_s=1.0) as process:
        yield process.environment(child_environment())


def stage(environment: dict[str, str], *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tasks.running.run_stage", "probe", *arguments]
    return subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=60, check=False)


def eventually(true: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_fork_has_the_libraries_and_the_stage_its_own_environment(project: Path, warm: dict[str, str]) -> None:
    for colour in ("red", "green"):
        done = stage(warm, "say", COLOUR=colour)
        assert done.returncode == 0, done.stderr
        assert '"held": true' in done.stdout
        assert f'"colour": "{colour}"' in done.stdout
        assert f'"folder": "{project}"' in done.stdout


def test_code_that_changed_in_between_is_the_code_that_runs(project: Path, warm: dict[str, str]) -> None:
    """A fork must not run what the warm process saw before, nor what was edited after the cycle locked its code."""
    assert stage(warm, "say").returncode == 0
    file = project / "tasks" / "stages" / "probe.py"
    file.write_text(PROBE.replace("def probe(kind: str) -> None:", "def probe(kind: str) -> None:\n    print('new')"), encoding="utf-8")
    edited = stage(warm, "say")
    assert (
        edited.returncode == 5
        and "the code of stage probe is not the code that code.lock.json names (tasks/stages/probe.py)" in edited.stderr
    )
    (project / "code.lock.json").unlink()
    assert "new" in stage(warm, "say").stdout


@pytest.mark.parametrize(("kind", "code", "says"), [("fail", 3, "error: seven rows are too few"), ("exit", 9, ""), ("die", 137, "")])
def test_exit_codes_come_through(warm: dict[str, str], kind: str, code: int, says: str) -> None:
    done = stage(warm, kind)
    assert (done.returncode, says in done.stderr) == (code, True)
    assert stage(warm, "say").returncode == 0, "and the next stage is served"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["hang", "deaf"])
def test_a_stage_ends_with_who_asked(warm: dict[str, str], kind: str, signal_number: int) -> None:
    command = [sys.executable, "-m", "tasks.running.run_stage", "probe", kind]
    with subprocess.Popen(command, env=warm, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        pid = int(asking.stdout.readline().rsplit(" ", 1)[1].rstrip("}\n"))
        assert pid != asking.pid
        asking.send_signal(signal_number)
        asking.wait(30)
        assert eventually(lambda: not alive(pid))


def test_the_end_of_the_cycle_ends_everything(project: Path) -> None:
    with ForkServer(("wave",)) as process:
        environment = process.environment(child_environment())
        asking = subprocess.Popen(
            [sys.executable, "-m", "tasks.running.run_stage", "probe", "hang"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asking.stdout is not None
        pid = int(asking.stdout.readline().rsplit(" ", 1)[1].rstrip("}\n"))
    _, errors = asking.communicate(timeout=30)
    assert asking.returncode == 5
    assert errors.startswith("error: the process that ran this stage was ended from outside")
    assert eventually(lambda: not alive(pid))
    assert not Path(environment[SOCKET]).parent.exists()


def test_a_caller_hears_that_the_server_was_killed_though_another_fork_lives_on(project: Path) -> None:
    """A fork that keeps the connections of others open would leave their callers waiting for as long as it lives."""
    with ForkServer(("wave",)) as process:
        environment = process.environment(child_environment())
        asking, pids = [], []
        for kind in ("hang", "deaf"):
            command = [sys.executable, "-m", "tasks.running.run_stage", "probe", kind]
            asking.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
            assert asking[-1].stdout is not None
            pids.append(int(asking[-1].stdout.readline().rsplit(" ", 1)[1].rstrip("}\n")))
        try:
            assert eventually(lambda: "SIGTERM" in ignored(pids[1]))
            os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)
            assert asking[0].wait(30) == 5 and alive(pids[1])
        finally:
            os.kill(pids[1], signal.SIGKILL)
            for one in asking:
                one.communicate(timeout=30)


@pytest.mark.parametrize("kind", ["hang", "deaf"])
@pytest.mark.parametrize("warm", [True, False])
def test_another_thread_can_end_all_that_runs(project: Path, warm: bool, kind: str) -> None:
    """Two stages run side by side, the flow's own thread is interrupted: both end, also if they ignore SIGTERM, and what starts after that ends at once."""
    with ForkServer(("wave",), patience_s=2.0) as process:
        base = child_environment() if warm else {**child_environment(), SOCKET: "/nonexistent"}
        pids: Queue[int] = Queue()

        def hear(line: str) -> None:
            if "pid" in line:
                pids.put(int(line.rsplit(" ", 1)[1].rstrip("}\n")))

        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(process.streamed, "tasks.running.stage_command", ["probe", kind], base, hear) for _ in range(2)]
            running = [pids.get(timeout=30) for _ in asked]
            process.stop()
            assert all(future.result(30)[0] != 0 for future in asked)
        assert eventually(lambda: not any(alive(pid) for pid in running))
        assert process.streamed("tasks.running.stage_command", ["probe", "hang"], base, hear)[0] != 0


def test_the_server_outlives_the_thread_that_first_asked_for_it(project: Path) -> None:
    """The kernel ends a process when the thread that started it ends, and a thread of a pool ends before the cycle does."""
    with ForkServer(("wave",)) as process:
        asking = Thread(target=process.environment, args=[child_environment()])
        asking.start()
        asking.join(30)
        done = stage(process.environment(child_environment()), "say")
        assert done.returncode == 0 and json.loads(done.stdout)["held"]


def test_everything_that_is_named_for_import_is_there() -> None:
    """What cannot be imported is left to the stage that needs it, so a wrong name would only make every stage slower."""

    def is_there(name: str) -> bool:
        """Without importing it, nor the packages around it."""
        top, *rest = name.partition(":")[0].split(".")
        spec = importlib.util.find_spec(top)
        if spec is None or not rest:
            return spec is not None
        file = Path(next(iter(spec.submodule_search_locations or ())), *rest)
        return file.is_dir() or file.with_suffix(".py").is_file()

    assert [name for name in (*fork_server.PRELOAD, *fork_server.TRIAL) if not is_there(name)] == []
    from dvc.cli.parser import get_main_parser

    forking_process.preload_one("dvc.cli.parser:get_main_parser")
    assert get_main_parser.cache_info().currsize == 1, "the first call's result is kept"


def ignored(pid: int) -> set[str]:
    """The signals that a process ignores."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")), 16)
    return {number.name for number in signal.Signals if mask >> (number - 1) & 1}


@pytest.mark.parametrize("said", [b"", b"\n", b"\nno request\n"])
def test_who_hangs_up_early_disturbs_nobody(warm: dict[str, str], said: bytes) -> None:
    assert stage(warm, "say").returncode == 0
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(warm[SOCKET])
        link.sendall(said)
    assert '"held": true' in stage(warm, "say").stdout


@pytest.mark.parametrize("where", ["/nowhere/s", ""])
def test_without_such_a_process_a_stage_starts_by_itself(project: Path, where: str) -> None:
    done = stage(child_environment(), "say", **{SOCKET: where})
    assert done.returncode == 0, done.stderr
    assert '"held": false' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"), [(("nosuch",), "error: there is no stage nosuch"), (("../x",), "error: there is no stage ../x")]
)
def test_a_stage_that_is_not_there_is_one_line(project: Path, arguments: tuple[str, ...], says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tasks.running.run_stage", *arguments], env=child_environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and done.stderr.startswith(says)
