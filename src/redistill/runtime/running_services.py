"""The servers that ``redistill up`` started for this project. Commands use them, so that a run by hand appears in the same UI as the nights."""

from __future__ import annotations

import json
import os
from pathlib import Path

SERVICES = Path(".redistill/services")
"""Records of the processes, their addresses, and their logs."""
LOGS = SERVICES / "logs"
ADDRESSES = SERVICES / "addresses.json"
SUPERVISOR = SERVICES / "supervisor.json"
RUNNER_READY = SERVICES / "runner.ready"
"""The runner writes its process id there once it accepts runs."""
TEMPORARY = "REDISTILL_TEMPORARY_PREFECT"
"""Set in a command that brings a Prefect server of its own, which has no UI and ends with the command."""
_NAMES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")


def use_running_services() -> None:
    """Put their addresses into the environment, unless it has others, while their supervisor runs."""
    if not ADDRESSES.is_file():
        return
    from redistill.runtime.processes import read_record

    supervisor = read_record(SUPERVISOR)
    if supervisor is None or supervisor.process() is None:
        return
    try:
        addresses = {name: str(json.loads(ADDRESSES.read_text(encoding="utf-8"))[name]) for name in _NAMES}
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name, address in addresses.items():
        os.environ.setdefault(name, address)
