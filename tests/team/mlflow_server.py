"""A team's MLflow server: runs and versions in PostgreSQL, files in an S3 store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redistill.runtime.environment import child_environment
from tests.servers import free_port, stop, until
from tests.team.object_store import ObjectStore

ADMIN, ADMIN_PASSWORD = "nightly", "mlflow:p@ss/word%2"
BUCKET = "mlflow"


@contextmanager
def team_mlflow(
    folder: Path,
    database: str,
    store: ObjectStore,
    *,
    direct: bool = False,
    password: str | None = None,
    s3_url: str | None = None,
    bucket: str = BUCKET,
    port: int | None = None,
) -> Iterator[str]:
    """The address of the server.

    Args:
        database: address of its PostgreSQL database.
        direct: clients read and write the store themselves; otherwise the server does it for them, and they need no key of the store.
        password: what the server demands of the user ``ADMIN``; None: it lets everybody in.
        s3_url: where the server finds the store, if not at its own address.
    """
    port = port or free_port()
    environment = {
        **{name: value for name, value in child_environment().items() if not name.startswith("MLFLOW_TRACKING")},
        **store.environment(url=s3_url),
        # In the environment, because every user of the machine can read the options of a process.
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    if direct:
        command += ["--no-serve-artifacts", "--default-artifact-root", f"s3://{bucket}"]
    else:
        command += ["--artifacts-destination", f"s3://{bucket}"]
    if password is not None:
        command += ["--app-name", "basic-auth"]
        environment |= {
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "tests-only-flask-key",
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        }
    with open(folder / "mlflow-server.log", "ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, start_new_session=True, stdout=log, stderr=log)
    try:
        until(f"http://127.0.0.1:{port}/health", timeout_s=240, process=process)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)
