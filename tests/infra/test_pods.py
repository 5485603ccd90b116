"""The pods of both overlays, run with podman as their manifests say, since no cluster can be had here: servers and runner get ready, and in the team's a night promotes a version that answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.infra.engine import podman, wait_for
from tests.infra.images import LARGE, POSTGRES, SEAWEEDFS, SMALL, in_containers, project_of_the_image
from tests.infra.pods import NETWORK, Pods, pods
from tests.infra.validators import INFRA, filled_example

pytestmark = in_containers
NO_TEACHER = "http://127.0.0.1:9/v1"
S3 = "http://s3:8333"


def secret(folder: Path) -> dict[str, str]:
    """The keys of the Secret, as infra/README.md makes it from the env file."""
    lines = filled_example(folder).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


@contextmanager
def overlay(name: str, folder: Path, project: Path) -> Iterator[tuple[Pods, dict[str, str]]]:
    passwords = secret(folder)
    images = {"redistill": LARGE, "redistill-services": SMALL}
    changed = {"REDISTILL_TEACHER_URL": NO_TEACHER, "AWS_ENDPOINT_URL": S3}
    with pods(name, folder, images, passwords, {"project": project}, changed) as running:
        yield running, passwords


def stores(passwords: dict[str, str]) -> None:
    """What the team's overlay finds outside the cluster: PostgreSQL with its databases, and S3 with its buckets."""
    keys = ("POSTGRES_PASSWORD", "PREFECT_DATABASE_PASSWORD", "MLFLOW_DATABASE_PASSWORD")
    script = f"{INFRA}/postgres/databases.sh:/docker-entrypoint-initdb.d/databases.sh:ro"
    run = ("run", "-d", "--network", NETWORK)
    environment = [part for key in keys for part in ("--env", f"{key}={passwords[key]}")]
    podman(*run, "--name", f"{NETWORK}-postgres", "--network-alias", "postgres", *environment, "-v", script, POSTGRES)
    account = (
        "--env",
        f"AWS_ACCESS_KEY_ID={passwords['S3_ACCESS_KEY_ID']}",
        "--env",
        f"AWS_SECRET_ACCESS_KEY={passwords['S3_SECRET_ACCESS_KEY']}",
    )
    options = ("-ip=s3", "-ip.bind=0.0.0.0", "-master.volumePreallocate=false", "-master.telemetry=false", "-s3", "-s3.port=8333")
    podman(*run, "--name", f"{NETWORK}-s3", "--network-alias", "s3", *account, SEAWEEDFS, "server", *options)
    address = ("--env", f"AWS_ENDPOINT_URL={S3}", "--env", "AWS_DEFAULT_REGION=us-east-1")
    make = ("python", "/opt/redistill/infra/make_buckets.py", "redistill-mlflow", "redistill-dvc")
    podman("run", "--rm", "--network", NETWORK, *account, *address, SMALL, *make)
    ready = ("exec", f"{NETWORK}-postgres", "pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres")
    wait_for(lambda: podman(*ready, check=False).returncode == 0, "PostgreSQL is ready", 120)


def test_the_pods_of_one_node_get_ready_and_ask_for_passwords(images: None, tmp_path: Path) -> None:
    project = project_of_the_image(tmp_path / "project")
    with overlay("one-node", tmp_path, project) as (running, _):
        for name in ("prefect", "mlflow", "runner"):
            running.start(name)
        for address, path in (
            (running.address("prefect", 4200), "/api/flows/filter"),
            (running.address("mlflow", 5000), "/api/2.0/mlflow/experiments/search"),
        ):
            host = {"Host": "mlflow:5000"}
            assert httpx.post(address + path, json={"max_results": 1}, headers=host, timeout=60).status_code == 401


def test_a_night_of_the_team_promotes_a_version_that_answers(images: None, tmp_path: Path) -> None:
    project = project_of_the_image(tmp_path / "project")
    with overlay("team", tmp_path, project) as (running, passwords):
        stores(passwords)
        begin = time.monotonic()
        for name in ("prefect", "mlflow", "runner"):
            running.start(name)
        print(f"prefect, mlflow and runner ready: {time.monotonic() - begin:.0f} s")
        begin = time.monotonic()
        podman("exec", f"{NETWORK}-runner", "prefect", "deployment", "run", "distill-student/tiny-nightly")
        account = ("admin", passwords["PREFECT_PASSWORD"])
        with httpx.Client(base_url=running.address("prefect", 4200), auth=account, timeout=60) as prefect:

            def ended() -> list[str]:
                runs: list[dict[str, Any]] = prefect.post(
                    "/api/flow_runs/filter", json={"flows": {"name": {"any_": ["distill-student"]}}}
                ).json()
                return [run["state_type"] for run in runs if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]

            wait_for(ended, "the night ends", 900)
            assert ended() == ["COMPLETED"]
        print(f"a night: {time.monotonic() - begin:.0f} s")
        for name in ("student", "router"):
            running.start(name)
        url, key = running.address("router", 8080), {"Authorization": f"Bearer {passwords['REDISTILL_SERVE_API_KEY']}"}
        body = {"messages": [{"role": "user", "content": "new email adress, how i change it in app?"}]}

        def route() -> str:
            return httpx.post(f"{url}/v1/chat/completions", json=body, headers=key, timeout=60).headers.get("X-Redistill-Route", "")

        wait_for(lambda: route() == "student", "the student answers", 300)
