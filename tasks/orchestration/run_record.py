"""Which process executes which flow run: written by the run itself, read after a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict

from redistill.io.json import write_json
from redistill.runtime.processes import ProcessRecord, read_record
from tasks.paths import STATE

RUNS = STATE / "runs"


@contextlib.contextmanager
def recorded(flow_run_id: str) -> Iterator[None]:
    """Record this process while it executes a flow run. A kill leaves the record, and its process is gone."""
    record = RUNS / f"{flow_run_id}.json"
    write_json(record, asdict(ProcessRecord.mine()))
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def is_alive(flow_run_id: str) -> bool | None:
    """Whether the process of a flow run works; None if nothing is recorded about it on this machine."""
    record = read_record(RUNS / f"{flow_run_id}.json")
    return None if record is None else record.process() is not None


def forget(flow_run_id: str) -> None:
    (RUNS / f"{flow_run_id}.json").unlink(missing_ok=True)


def records() -> list[str]:
    """The flow runs that have a record."""
    return sorted(file.stem for file in RUNS.glob("*.json"))
