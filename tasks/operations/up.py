"""``redistill up`` and ``redistill down``: start the supervisor and wait for it, or end it and what it started."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from redistill.errors import ConfigError, RegistryError, StageError
from redistill.io.json import read_json
from redistill.runtime.environment import child_environment
from redistill.runtime.processes import ProcessRecord, read_record
from redistill.runtime.running_services import ADDRESSES, LOGS, SUPERVISOR
from tasks.operations import background_process
from tasks.operations.addresses import Addresses
from tasks.operations.supervisor import START_TIMEOUT_S, end_services

LOG = LOGS / "supervisor.log"
_LOGGED = re.compile(r"\d{4}-\d\d-\d\dT")
"""What the supervisor itself logs begins with a time; other lines are from libraries."""
_STOP_TIMEOUT_S = 150.0
"""The runner has 30 s to end its runs, then they are recorded; the servers have 30 s each."""


@dataclass(frozen=True, slots=True)
class Running:
    """What ``up`` reports. ``started``: False if everything ran already."""

    started: bool
    pid: int
    prefect: str
    mlflow: str


def up(addresses: Addresses, say: Callable[[str], None], *, chosen: bool) -> Running:
    """Start what does not run yet, and return when all of it is ready. ``chosen``: a person chose the addresses, they are not the defaults.

    Raises:
        ConfigError: a port is used by another program, the services run with other addresses, or Prefect's database cannot be used.
        RegistryError: MLflow's file has another schema than the installed MLflow.
        StageError: a service ended or is not ready in time; names its log.
    """
    supervisor = _supervisor()
    if supervisor is not None:
        running = _addresses()
        if running is not None and not chosen:
            addresses = running
        if running is not None and running != addresses:
            raise ConfigError(
                f"the services of this project already run with other addresses ({running.prefect_url}, {running.mlflow_url}); "
                "run `redistill down` first"
            )
        _wait(lambda: supervisor.process() is not None, _log_size(), say)
        return Running(False, supervisor.pid, addresses.prefect_page, addresses.mlflow_url)
    LOGS.mkdir(parents=True, exist_ok=True)
    begin = _log_size()
    command = [sys.executable, "-m", "tasks.operations.supervisor", addresses.host, str(addresses.prefect_port), str(addresses.mlflow_port)]
    process = background_process.start(command, child_environment(), LOG, SUPERVISOR)
    try:
        _wait(lambda: process.poll() is None, begin, say)
    except StageError as error:
        # The supervisor's own exit code tells a problem of the configuration or of the registry from a service that failed.
        kinds = {kind.exit_code: kind for kind in (ConfigError, RegistryError)}
        kind = kinds.get(process.poll() or 0)
        raise (error if kind is None else kind(str(error))) from None
    return Running(True, process.pid, addresses.prefect_page, addresses.mlflow_url)


def _wait(alive: Callable[[], bool], begin: int, say: Callable[[str], None]) -> None:
    """Wait until the supervisor is ready, and show what it logs from byte ``begin`` on."""
    deadline, shown = time.monotonic() + 3 * START_TIMEOUT_S, begin
    while True:
        lines, shown = _new_lines(shown)
        for line in lines:
            if _LOGGED.match(line):
                say(line.partition(" ")[2])
        if _is_ready():
            return
        if not alive():
            last = [line for line in _new_lines(begin)[0] if line.startswith("error: ")]
            raise StageError(last[-1].removeprefix("error: ") if last else f"the supervisor has ended; see its log {LOG}")
        if time.monotonic() > deadline:
            raise StageError(f"the services are not ready after {3 * START_TIMEOUT_S:.0f} s; see the logs in {LOGS}")
        time.sleep(0.1)


def _is_ready() -> bool:
    try:
        return bool(json.loads(SUPERVISOR.read_text(encoding="utf-8"))["ready"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _log_size() -> int:
    return LOG.stat().st_size if LOG.is_file() else 0


def _new_lines(begin: int) -> tuple[list[str], int]:
    """The whole lines of the supervisor's log from byte ``begin`` on, and where they end."""
    if not LOG.is_file():
        return [], begin
    with LOG.open("rb") as log:
        log.seek(begin)
        text = log.read()
    text = text[: text.rfind(b"\n") + 1]
    return text.decode(errors="replace").splitlines(), begin + len(text)


def down(say: Callable[[str], None]) -> list[str]:
    """End exactly what ``up`` started; returns the names of what ended."""
    addresses = _addresses() or Addresses()
    supervisor = _supervisor()
    if supervisor is None:
        return end_services(addresses, say)
    begin = _log_size()
    process = supervisor.process()
    if process is not None:
        os.kill(supervisor.pid, signal.SIGTERM)
        psutil.wait_procs([process], _STOP_TIMEOUT_S)
    ended = [line.partition(" ")[2] for line in _new_lines(begin)[0] if line.endswith("has ended")]
    for line in ended:
        say(line)
    if process is not None and process.is_running() and supervisor.process() is not None:
        process.kill()
    left = end_services(addresses, say)
    SUPERVISOR.unlink(missing_ok=True)
    return [*(line.partition(" (")[0] for line in ended), *left]


def _supervisor() -> ProcessRecord | None:
    record = read_record(SUPERVISOR)
    return record if record is not None and record.process() is not None else None


def _addresses() -> Addresses | None:
    """The addresses of the services that run."""
    if not ADDRESSES.is_file():
        return None
    tree = read_json(ADDRESSES)
    return Addresses(tree["host"], tree["prefect_port"], tree["mlflow_port"], tree["prefect_api"], tree["mlflow"])
