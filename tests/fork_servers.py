"""``python -m tests.fork_servers ADDRESSES OWNER``: the two processes of which a test run's commands and stages are forks.

One is for commands, the other for stages. What both need is imported before they part, so it is imported once a test run. Both listen only when they have
imported everything: a fork that comes earlier imports the rest itself. The command returns when their addresses are in the file ADDRESSES, and they end
when the process OWNER ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tasks.running import fork_server, forking_process
from tasks.running.die_with_parent import die_with_parent

BOTH = (
    "pyarrow.parquet",
    "torch",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "optuna",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "rensa",
)
STAGES = (*fork_server.PRELOAD, "great_expectations", "transformers.models.llama.modeling_llama")
"""In a cycle one stage needs the first of the last two, and which model the second is differs; here all models are one."""
COMMANDS = (
    "prefect.main",
    "prefect.events",
    "prefect.artifacts",
    "prefect.runtime",
    "prefect.flow_engine",
    "prefect.task_engine",
    "mlflow",
    "mlflow.transformers",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "typer.main",
    "model_signing",
    "matplotlib.pyplot",
    "openfeature.contrib.provider.flagd",
    "scipy.stats",
    "alembic.command",
    "sqlalchemy.dialects.sqlite",
    "detect_secrets.core.scan",
    "graphviz",
    "anyio._backends._asyncio",
    "typer.rich_utils",
    "cryptography.hazmat.backends.openssl",
)
PATIENCE_S = 10.0
START_TIMEOUT_S = 240.0


def main(addresses: Path, owner: int) -> None:
    """Return in the caller's process when the servers listen; the rest is done by a process of its own."""
    listening, listens = os.pipe()
    if os.fork():
        os.close(listens)
        if not os.read(listening, 1):
            sys.exit("error: the fork servers did not start")
        return
    os.setsid()
    folder = Path(tempfile.mkdtemp(prefix="redistill-"))
    for name in BOTH:
        importlib.import_module(name)
    paths = {"commands": folder / "c", "stages": folder / "s"}
    servers = [_served(paths["commands"], COMMANDS), _served(paths["stages"], STAGES)]
    deadline = time.monotonic() + START_TIMEOUT_S
    while not all(path.exists() for path in paths.values()) and time.monotonic() < deadline:
        time.sleep(0.01)
    addresses.write_text(json.dumps({name: str(path) for name, path in paths.items()}), encoding="utf-8")
    os.write(listens, b"\n")
    os.close(listens)
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(owner)], [], [])
    for pid in servers:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    shutil.rmtree(folder, ignore_errors=True)
    # Without the rest of an interpreter's end: this process only held others.
    os._exit(0)


def _served(path: Path, modules: tuple[str, ...]) -> int:
    """A fork of this process that serves at ``path`` and imports ``modules`` besides; its id."""
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            for name in modules:
                forking_process.preload_one(name)
            forking_process.serve(str(path), PATIENCE_S, [])
        finally:
            os._exit(1)
    return pid


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
