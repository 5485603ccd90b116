"""The images, and the team's set in containers: one tiny night that is killed in the middle, and the next one that finishes it. `make test-infra` runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.infra.engine import Compose, build, container, health_checks, podman, state, wait_for
from tests.infra.validators import docker_compose, filled_example
from tests.servers import free_port
from tests.tiny_project import ROOT, make_tiny_project

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(5400),
    pytest.mark.skipif(not os.environ.get("REDISTILL_CONTAINERS"), reason="builds images for half an hour; `make test-infra` runs it"),
    pytest.mark.skipif(
        shutil.which("podman") is None or docker_compose() is None, reason="needs podman, and the Docker Compose of `make check`"
    ),
]
LARGE, SMALL, POSTGRES = "localhost/redistill:test", "localhost/redistill-services:test", "localhost/redistill-postgres:test"
USER = 10001
CALLERS_KEY = "secret-of-REDISTILL_SERVE_API_KEY"


@pytest.fixture(scope="module")
def images() -> None:
    """All three, with their sizes and times for infra/README.md."""
    small = ("--build-arg", "LOCK=services", "--build-arg", "TORCH_BACKEND=", ".")
    for image, arguments in (
        (SMALL, ("-f", "infra/Containerfile", *small)),
        (POSTGRES, ("tests/infra/postgres",)),
        (LARGE, ("-f", "infra/Containerfile", ".")),
    ):
        seconds, size = build(image, *arguments)
        print(f"{image}: {size / 1e9:.2f} GB, built in {seconds:.0f} s")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project that uses the flows of the image, and belongs to the image's user."""
    path = make_tiny_project(tmp_path_factory.mktemp("containers") / "project")
    for part in ("src", "tasks", "flows"):
        shutil.rmtree(path / part)
    for each in (path, *path.rglob("*")):
        os.chown(each, USER, USER)
    # Folders of the test are readable for their owner only, and the container's user must pass through them.
    for parent in path.parents:
        if parent.stat().st_mode & 0o077 == 0:
            parent.chmod(0o711)
    return path


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("prefect", "mlflow", "router")}


@pytest.fixture(scope="module")
def team(images: None, project: Path, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    folder = tmp_path_factory.mktemp("engine")
    env_file = filled_example(folder)
    settings = {
        "REDISTILL_PROJECT": project,
        "REDISTILL_IMAGE": LARGE,
        "REDISTILL_SERVICES_IMAGE": SMALL,
        "POSTGRES_IMAGE": POSTGRES,
        "REDISTILL_TEACHER_URL": "http://127.0.0.1:9/v1",
        **{f"{name.upper()}_PORT": port for name, port in ports.items()},
    }
    with env_file.open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in settings.items())
    socket = folder / "podman.sock"
    service = subprocess.Popen(["podman", "system", "service", "--time", "0", f"unix://{socket}"], start_new_session=True)
    compose = Compose(socket, env_file)
    try:
        wait_for(socket.exists, "podman's socket", 30)
        with health_checks():
            compose("up", "-d", "runner")
            yield compose
    finally:
        print(compose("logs", "--tail", "40", check=False).stdout)
        compose("down", "--volumes", "--timeout", "30", check=False)
        service.terminate()
        service.wait(30)


@pytest.fixture(scope="module")
def prefect(team: Compose, ports: dict[str, int]) -> Iterator[httpx.Client]:
    url = f"http://127.0.0.1:{ports['prefect']}/api/"
    with httpx.Client(base_url=url, auth=("admin", "secret-of-PREFECT_PASSWORD"), timeout=60) as client:
        wait_for(
            lambda: state("runner").get("Health", state("runner").get("Healthcheck", {})).get("Status") == "healthy",
            "the runner is healthy",
            600,
        )
        yield client


def runs(prefect: httpx.Client) -> list[dict[str, Any]]:
    """The cycles, oldest first."""
    body = {"flows": {"name": {"any_": ["distill-student"]}}, "flow_runs": {"start_time": {"is_null_": False}}, "sort": "START_TIME_ASC"}
    answer = prefect.post("flow_runs/filter", json=body)
    answer.raise_for_status()
    return list(answer.json())


def test_servers_ask_for_a_password_and_stores_have_no_port(team: Compose, prefect: httpx.Client, ports: dict[str, int]) -> None:
    for url, account in (
        (f"http://127.0.0.1:{ports['prefect']}/api/flows/filter", ("admin", "wrong")),
        (f"http://127.0.0.1:{ports['mlflow']}/api/2.0/mlflow/experiments/search", ("admin", "wrong")),
    ):
        assert httpx.post(url, json={"max_results": 1}).status_code == 401
        assert httpx.post(url, json={"max_results": 1}, auth=account).status_code == 401
    assert prefect.get("health").status_code == 200
    assert (
        httpx.get(f"http://127.0.0.1:{ports['prefect']}/", headers={"Accept": "text/html"}, follow_redirects=True)
        .text.lstrip()
        .startswith("<!")
    )
    assert not podman("port", container("postgres"), check=False).stdout and not podman("port", container("s3"), check=False).stdout


def test_a_night_that_is_killed_is_finished_by_the_next(team: Compose, prefect: httpx.Client, project: Path) -> None:
    podman("exec", container("runner"), "prefect", "deployment", "run", "distill-student/tiny-nightly")
    work = project / ".redistill/work"
    wait_for(lambda: list(work.glob("finetune*")), "the night trains", 900)
    [killed] = runs(prefect)
    asked = sorted(path.name for path in (project / ".redistill/store").rglob("*") if path.is_file())
    podman("kill", "--signal", "KILL", container("runner"))
    wait_for(lambda: not state("runner").get("Running"), "the runner is gone", 60)
    team("up", "-d", "runner")

    def later() -> list[dict[str, Any]]:
        return [run for run in runs(prefect) if run["id"] != killed["id"] and run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]

    wait_for(later, "the next night ends", 1200)
    assert {run["state_type"] for run in later()} == {"COMPLETED"}, later()
    assert next(run for run in runs(prefect) if run["id"] == killed["id"])["state_type"] == "CRASHED"
    assert sorted(path.name for path in (project / ".redistill/store").rglob("*") if path.is_file()) == asked, (
        "no completion was asked for again"
    )
    assert (project / "artifacts/report/index.html").is_file()


def test_the_version_is_in_postgresql_and_its_files_are_on_s3(team: Compose, prefect: httpx.Client) -> None:
    sql = ("psql", "-h", "/tmp", "-U", "postgres", "-d", "mlflow", "-Atc", "select name, version, storage_location from model_versions")
    name, version, place = podman("exec", container("postgres"), *sql).stdout.strip().splitlines()[0].split("|")
    assert (name, version) == ("tiny", "1") and place
    listed = "import boto3; print(*[o['Key'] for o in boto3.client('s3').list_objects_v2(Bucket='redistill-mlflow').get('Contents', [])])"
    keys = podman("exec", container("mlflow"), "python", "-c", listed).stdout
    assert ".safetensors" in keys, keys
    status = podman("exec", container("runner"), "redistill", "status").stdout
    assert "tiny" in status


def test_the_router_of_the_small_image_lives_and_asks_for_a_key(team: Compose, prefect: httpx.Client, ports: dict[str, int]) -> None:
    team("up", "-d", "--no-deps", "router")
    url = f"http://127.0.0.1:{ports['router']}"

    def status(path: str, **how: Any) -> int:
        try:
            return httpx.request("GET", url + path, timeout=10, **how).status_code
        except httpx.HTTPError:
            return 0

    wait_for(lambda: status("/healthz") == 200, "the router lives", 120)
    assert status("/v1/models") == 401
    assert status("/v1/models", headers={"Authorization": f"Bearer {CALLERS_KEY}"}) == 200
    assert status("/metrics") == 200


def test_the_small_image_is_not_root_and_needs_no_writable_root(images: None) -> None:
    run = ("run", "--rm", "--read-only", "--tmpfs", "/tmp:mode=1777", "--env", "HOME=/tmp", "--cap-drop", "ALL", SMALL)
    assert podman(*run, "id", "-u").stdout.strip() == str(USER)
    missing = podman(
        *run, "python", "-c", "import importlib.util as u; print(*[n for n in ('torch', 'vllm', 'transformers') if u.find_spec(n)])"
    )
    assert missing.stdout.strip() == ""
    assert "Usage" in podman(*run, "redistill", "--help").stdout


def test_a_project_of_another_user_is_one_line(images: None, tmp_path: Path) -> None:
    """The volume belongs to root, and the image's user is 10001."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "data", project / "data")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, project / name)
    for parent in (project, *project.parents):
        if parent != Path("/") and parent.stat().st_mode & 0o077 == 0:
            parent.chmod(0o755)
    done = podman("run", "--rm", "-v", f"{project}:/project", LARGE, "redistill", "run", check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode in (2, 5) and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
