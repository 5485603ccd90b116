"""Deploys the flows to a process work pool and works on it. Called in the project's folder; ``PREFECT_API_URL`` names the server.

It is a worker and not ``redistill watch``, because ``watch`` pauses the schedules when it ends. A worker leaves them active, so a night that
was due while the runner was down starts when the runner is back. A worker also has a health check.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx

from redistill.cli.bundled import use_application
from redistill.errors import ConfigError, RedistillError
from redistill.params import load_params
from redistill.runtime import environment

DEPLOYMENTS = Path(__file__).with_name("prefect.yaml")
POOL = "redistill"


def of_project() -> dict[str, str]:
    """The project's folder and schedule, under the names that prefect.yaml reads from the environment."""
    schedule = load_params().schedule
    return {
        "REDISTILL_DIRECTORY": os.getcwd(),
        "REDISTILL_NIGHTLY_CRON": schedule.nightly_cron,
        "REDISTILL_WATCH_CRON": schedule.watch_cron,
    }


def make_pool() -> None:
    """Create the pool if it is missing. An existing pool is not changed: a person may have paused it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))


def main() -> None:
    if not os.environ.get("PREFECT_API_URL"):
        raise ConfigError("PREFECT_API_URL is not set; it names the Prefect server, such as http://prefect:4200/api")
    environment.silence()
    use_application()
    os.environ.update(of_project())
    try:
        make_pool()
    except httpx.HTTPError as error:
        # The container is started again until the server answers: after a reboot all three start at once.
        raise ConfigError(f"Prefect's server at {os.environ['PREFECT_API_URL']} cannot be used ({error})") from None
    prefect = [sys.executable, "-m", "prefect"]
    if subprocess.run([*prefect, "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)], check=False).returncode:
        raise ConfigError("`prefect deploy` failed; its message is above")
    # The worker takes the place of this process, so that signals reach it.
    work = [*prefect, "worker", "start", "--pool", POOL, "--type", "process", "--name", "runner", "--with-healthcheck"]
    os.execv(sys.executable, work)  # noqa: S606


if __name__ == "__main__":
    try:
        main()
    except RedistillError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
