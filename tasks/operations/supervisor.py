"""Keeps the services running: starts each, waits until it is ready, and starts it again if it ends or does not answer any more.

``redistill up`` starts this as a process of its own; a systemd unit runs it in the foreground. SIGTERM ends the services in the opposite order of
their start: the runner first, so that its runs are ended while the servers can still record it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from redistill.errors import ConfigError, StageError
from redistill.io.json import write_json
from redistill.runtime.environment import child_environment
from redistill.runtime.processes import ProcessRecord, read_record
from redistill.runtime.running_services import ADDRESSES, RUNNER_READY, SUPERVISOR
from tasks.operations import background_process
from tasks.operations.addresses import MLFLOW, PREFECT_API, Addresses, write_addresses
from tasks.operations.prefect_database import check_prefect_database
from tasks.operations.services import PREFECT_HOME, TITLES, Service, answers, healthy, record_of, services
from tasks.paths import STATE
from tasks.registry.store import make_store

START_TIMEOUT_S = 240.0
_RUNNER_STOP_S = 15.0
"""A cycle that is ended needs a second or two. What it lost is made again."""
_LOOK_EVERY_S = 0.2
_LONGEST_PAUSE_S = 60.0
_ASK_EVERY_S = 15.0
_HUNG_S = 300.0
"""A server that has not answered for this long is ended and started again. Longer than a busy machine or a migration makes it wait."""
_HUNG_STOP_S = 3.0
_STEADY_S = 300.0
"""A service that ran for this long starts again without a pause when it ends."""


class Stopped(Exception):
    """SIGTERM or SIGINT: a person or systemd ends the services."""


@dataclass(slots=True)
class _Kept:
    """A service and its process. ``failures`` counts starts that did not last."""

    service: Service
    process: ProcessRecord | None = None
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    not_before: float = field(default=0.0)
    asked: float = field(default_factory=time.monotonic)
    answered: float = field(default_factory=time.monotonic)

    def running(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return self.process is not None and self.process.process() is not None

    @property
    def why_ended(self) -> str:
        code = self.child.returncode if self.child is not None else None
        return "ended" if code is None else f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def supervise(addresses: Addresses, say: Callable[[str], None]) -> None:
    """Keep the services running until SIGTERM or SIGINT.

    Raises:
        ConfigError: a port is used by another program, or the runner refuses this project.
        StageError: a service does not become ready at the first start.
    """
    mine = asdict(ProcessRecord.mine())
    write_json(SUPERVISOR, {**mine, "ready": False})
    write_addresses(addresses)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        if addresses.mlflow is None:
            make_store(STATE)
        if addresses.prefect_api is None:
            check_prefect_database(Path(os.environ.get("PREFECT_HOME") or PREFECT_HOME))
        kept = [_Kept(service) for service in services(addresses)]
        for one in kept:
            _adopt_or_start(one, addresses, say)
        for one in kept:
            _wait_until_ready(one)
            say(f"{one.service.title} is ready" + (f": {one.service.url}" if one.service.url else ""))
        write_json(SUPERVISOR, {**mine, "ready": True})
        while True:
            time.sleep(_LOOK_EVERY_S)
            for one in kept:
                _look_after(one, say)
    except Stopped:
        say("ending")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        end_services(addresses, say)
        SUPERVISOR.unlink(missing_ok=True)


def _stop(*_: Any) -> None:
    raise Stopped


def _adopt_or_start(one: _Kept, addresses: Addresses, say: Callable[[str], None]) -> None:
    """Use the process that an earlier supervisor left, if it still works; a kill -9 of the supervisor leaves its services running."""
    service, left = one.service, read_record(one.service.record)
    if left is not None and left.process() is not None and service.health is not None and service.ready(left.pid):
        one.process, one.started = left, time.monotonic()
        say(f"{service.title} already runs (process {left.pid})")
        return
    background_process.end(service.record)
    if service.health is not None:
        port = addresses.prefect_port if service.name == "prefect" else addresses.mlflow_port
        if answers(addresses.host, port):
            raise ConfigError(
                f"port {port} of {addresses.host} is used by a program that `redistill up` did not start; end it, choose another port with "
                f"--{service.name}-port, or use that server: set {PREFECT_API if service.name == 'prefect' else MLFLOW} to its address"
            )
    _start(one)


def _start(one: _Kept) -> None:
    one.child = background_process.start(one.service.command, one.service.environment, one.service.log, one.service.record)
    one.started = time.monotonic()


def _wait_until_ready(one: _Kept) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        pid = one.child.pid if one.child is not None else one.process.pid if one.process is not None else 0
        if one.service.ready(pid):
            return
        if not one.running():
            raise StageError(f"{one.service.title} {one.why_ended}: {last_line(one.service)}; its log is {one.service.log}")
        if time.monotonic() > deadline:
            raise StageError(f"{one.service.title} is not ready after {START_TIMEOUT_S:.0f} s; see its log {one.service.log}")
        time.sleep(_LOOK_EVERY_S)


def _look_after(one: _Kept, say: Callable[[str], None], ask_every_s: float = _ASK_EVERY_S, hung_s: float = _HUNG_S) -> None:
    """Start a service that ended again, at once if it ran for long, else after a pause that doubles. One that hangs is ended first."""
    background_process.shorten(one.service.log)
    if one.running():
        _end_if_it_hangs(one, say, ask_every_s, hung_s)
        return
    now = time.monotonic()
    if one.not_before == 0.0:
        one.failures = 0 if now - one.started > _STEADY_S else one.failures + 1
        pause = 0.0 if one.failures == 0 else min(_LONGEST_PAUSE_S, 2.0 ** (one.failures - 1))
        one.not_before = now + pause
        say(f"{one.service.title} {one.why_ended}; starting it again" + (f" in {pause:.0f} s" if pause else ""))
    if now >= one.not_before:
        one.not_before, one.process = 0.0, None
        _start(one)


def _end_if_it_hangs(one: _Kept, say: Callable[[str], None], ask_every_s: float, hung_s: float) -> None:
    now = time.monotonic()
    if one.service.health is None or now - one.asked < ask_every_s:
        return
    if now - one.asked > 2 * hung_s:
        one.answered = now  # nobody asked meanwhile, for example because the machine slept
    one.asked = now
    if healthy(one.service.health):
        one.answered = time.monotonic()
    elif now - max(one.answered, one.started) > hung_s:
        say(f"{one.service.title} has not answered for {hung_s:.0f} s; ending it")
        background_process.end(one.service.record, _HUNG_STOP_S)
        one.answered = time.monotonic()


def end_services(addresses: Addresses, say: Callable[[str], None]) -> list[str]:
    """End what was started, and nothing else; returns the titles of what ran."""
    ended = []
    for name, title in reversed(TITLES.items()):
        pid = background_process.end(record_of(name), _RUNNER_STOP_S if name == "runner" else background_process.STOP_TIMEOUT_S)
        if pid is not None:
            ended.append(title)
            say(f"{title} (process {pid}) has ended")
        if name == "runner":
            RUNNER_READY.unlink(missing_ok=True)
            if pid is not None:
                _record_ended_runs(addresses)
    ADDRESSES.unlink(missing_ok=True)
    return ended


def _record_ended_runs(addresses: Addresses) -> None:
    """The runner's processes are gone, so their runs must not stay in state Running."""
    environment = child_environment() | {PREFECT_API: addresses.prefect_url, MLFLOW: addresses.mlflow_url}
    with contextlib.suppress(subprocess.TimeoutExpired, OSError):
        subprocess.run(
            [sys.executable, "-m", "tasks.orchestration.reconcile"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )


def last_line(service: Service) -> str:
    """The last line of its log that says something: an error's line if there is one."""
    try:
        lines = [line.strip() for line in service.log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:] if line.strip()]
    except OSError:
        return "no log"
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["its log is empty"])[-1][:300]


def main(options: Sequence[str]) -> int:
    """``python -m tasks.operations.supervisor HOST PREFECT_PORT MLFLOW_PORT``; servers of a team come from the environment."""
    from tasks.operations.addresses import from_options

    host, prefect_port, mlflow_port = options
    supervise(from_options(host, int(prefect_port), int(mlflow_port)), lambda line: print(f"{_now()} {line}", flush=True))
    return 0


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")


if __name__ == "__main__":
    from redistill.errors import RedistillError
    from redistill.runtime import environment

    environment.silence()
    os.umask(0o077)
    try:
        sys.exit(main(sys.argv[1:]))
    except RedistillError as error:
        print(f"error: {error}", flush=True)
        sys.exit(error.exit_code)
