"""The images, and the team's set in containers: a tiny night that is killed in the middle, the next one that finishes it, and both models behind the router.

`make test-infra` runs it. It uses ``compose.yaml`` and ``compose.team.yaml`` as they are; only the images of both stores are made here.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from redistill.errors import DataError
from redistill.teacher.completion_store import CompletionStore
from tests.browser.chromium import Browser
from tests.browser.conftest import browser  # noqa: F401 - a fixture
from tests.infra.engine import Compose, container, health, health_checks, podman, state, wait_for
from tests.infra.images import LARGE, POSTGRES, SEAWEEDFS, SMALL, USER, in_containers, passable, project_of_the_image
from tests.infra.validators import filled_example
from tests.servers import free_port
from tests.tiny_project import make_tiny_project

pytestmark = in_containers
CALLERS_KEY = "secret-of-REDISTILL_SERVE_API_KEY"
SHOTS = os.environ.get("REDISTILL_SCREENSHOTS")
"""A folder that gets pictures of the pages, for docs/."""
NAMES = """
import json, os, urllib.request
request = urllib.request.Request("http://127.0.0.1:8000/v1/models", headers={"Authorization": "Bearer " + os.environ["REDISTILL_STUDENT_API_KEY"]})
print(*(model["id"] for model in json.load(urllib.request.urlopen(request))["data"]))
"""
"""Prints what the student's server lists, inside its container."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_of_the_image(tmp_path_factory.mktemp("containers") / "project")


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
        "S3_IMAGE": SEAWEEDFS,
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
            # Of a run that was interrupted.
            compose("down", "--volumes", check=False)
            started = time.monotonic()
            compose("up", "-d", "runner")
            wait_for(lambda: health("runner") == "healthy", "the runner is healthy", 600)
            print(f"up, with all services of a night healthy: {time.monotonic() - started:.0f} s")
            yield compose
    finally:
        print(compose("ps", "--all", check=False).stdout, compose("logs", "--tail", "60", check=False).stdout)
        compose("down", "--volumes", "--timeout", "30", check=False)
        service.terminate()
        service.wait(30)


@pytest.fixture(scope="module")
def prefect(team: Compose, ports: dict[str, int]) -> Iterator[httpx.Client]:
    url = f"http://127.0.0.1:{ports['prefect']}/api/"
    with httpx.Client(base_url=url, auth=("admin", "secret-of-PREFECT_PASSWORD"), timeout=60) as client:
        yield client


def listed(prefect: httpx.Client, kind: str, **filters: Any) -> list[dict[str, Any]]:
    answer = prefect.post(f"{kind}/filter", json=filters)
    answer.raise_for_status()
    return list(answer.json())


def cycles(prefect: httpx.Client) -> list[dict[str, Any]]:
    """Those that have started, oldest first."""
    started = {"start_time": {"is_null_": False}}
    return listed(prefect, "flow_runs", flows={"name": {"any_": ["distill-student"]}}, flow_runs=started, sort="START_TIME_ASC")


def completions(project: Path) -> int:
    """How many are in the store, while nothing writes to it."""
    with closing(CompletionStore(project / ".redistill/store/completions.sqlite")) as store:
        count = len(store)
    for file in (project / ".redistill/store").iterdir():
        os.chown(file, USER, USER)
    return count


def test_servers_ask_for_a_password_and_stores_have_no_port(team: Compose, prefect: httpx.Client, ports: dict[str, int]) -> None:
    for url in (
        f"http://127.0.0.1:{ports['prefect']}/api/flows/filter",
        f"http://127.0.0.1:{ports['mlflow']}/api/2.0/mlflow/experiments/search",
    ):
        assert httpx.post(url, json={"max_results": 1}).status_code == 401
        assert httpx.post(url, json={"max_results": 1}, auth=("admin", "wrong")).status_code == 401
    assert prefect.get("health").status_code == 200
    page = httpx.get(f"http://127.0.0.1:{ports['prefect']}/", headers={"Accept": "text/html"}, follow_redirects=True)
    assert page.text.lstrip().startswith("<!")
    for service in ("postgres", "s3"):
        assert not podman("port", container(service), check=False).stdout


def test_a_port_that_is_taken_is_one_line_and_harms_nothing(team: Compose, prefect: httpx.Client, ports: dict[str, int]) -> None:
    second = podman("run", "--rm", "-p", f"127.0.0.1:{ports['prefect']}:4200", SMALL, "true", check=False)
    assert second.returncode != 0 and "address already in use" in second.stderr, second.stderr
    assert prefect.get("health").status_code == 200


def test_a_night_that_is_killed_is_finished_by_the_next(team: Compose, prefect: httpx.Client, project: Path) -> None:
    podman("exec", container("runner"), "prefect", "deployment", "run", "distill-student/tiny-nightly")

    def trains() -> bool:
        running = listed(prefect, "task_runs", task_runs={"state": {"type": {"any_": ["RUNNING"]}}})
        return any("finetune" in run["name"] for run in running)

    begin = time.monotonic()
    wait_for(trains, "the night trains", 900)
    podman("kill", "--signal", "KILL", container("runner"))
    wait_for(lambda: not state("runner").get("Running"), "the runner is gone", 60)
    print(f"killed while it trained, {time.monotonic() - begin:.0f} s after its start")
    [killed] = cycles(prefect)
    asked = completions(project)
    begin = time.monotonic()
    # Not `up`: podman 4.3 names networks where Docker gives their ids, so that Compose makes every container again.
    team("start", "runner")

    def later() -> list[dict[str, Any]]:
        return [run for run in cycles(prefect) if run["id"] != killed["id"] and run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]

    wait_for(later, "the next night ends", 1200)
    print(f"the next night ended {time.monotonic() - begin:.0f} s after the runner was started again")
    assert {run["state_type"] for run in later()} == {"COMPLETED"}, later()
    assert next(run for run in cycles(prefect) if run["id"] == killed["id"])["state_type"] == "CRASHED"
    assert (project / "artifacts/report/index.html").is_file()
    lines = podman("exec", container("runner"), "redistill", "status").stdout
    assert "version 1" in lines and "student" in lines, lines
    assert asked and completions(project) == asked, "the teacher was not asked again"


def test_the_version_is_in_postgresql_and_its_files_are_on_s3(team: Compose, prefect: httpx.Client) -> None:
    sql = ("psql", "-h", "/tmp", "-U", "postgres", "-d", "mlflow", "-Atc", "select name, version, storage_location from model_versions")
    name, version, place = podman("exec", container("postgres"), *sql).stdout.strip().splitlines()[0].split("|")
    assert (name, version) == ("tiny", "1") and place
    assert any(key.endswith(".safetensors") for key in objects("redistill-mlflow"))


def test_dvc_pushes_to_the_store_and_a_mistyped_bucket_is_not_made(team: Compose, prefect: httpx.Client) -> None:
    def dvc(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return podman("exec", container("runner"), "dvc", *arguments, check=check)

    dvc("remote", "add", "--default", "team", "s3://redistill-dvc")
    dvc("push", "-q")
    assert len(objects("redistill-dvc")) > 10
    assert "up to date" in dvc("push").stdout or "Everything is up to date" in dvc("push").stderr
    dvc("remote", "add", "mistyped", "s3://redistill-dcv")
    assert dvc("push", "-r", "mistyped", check=False).returncode != 0
    listing = "import boto3; print(*sorted(b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']))"
    assert podman("exec", container("mlflow"), "python", "-c", listing).stdout.split() == ["redistill-dvc", "redistill-mlflow"]
    dvc("remote", "remove", "mistyped")


def objects(bucket: str) -> list[str]:
    """The keys of a bucket, as its own key may list them."""
    listing = (
        "import boto3; pages = boto3.client('s3').get_paginator('list_objects_v2').paginate(Bucket='" + bucket + "');"
        "print(*[o['Key'] for page in pages for o in page.get('Contents', [])], sep='\\n')"
    )
    return podman("exec", container("mlflow"), "python", "-c", listing).stdout.split()


def test_both_models_answer_behind_the_router(team: Compose, prefect: httpx.Client, project: Path, ports: dict[str, int]) -> None:
    begin = time.monotonic()
    team("up", "-d", "--no-recreate", "teacher", "student", "router")
    url = f"http://127.0.0.1:{ports['router']}"
    text = json.loads((project / "labelled.jsonl").read_text(encoding="utf-8").partition("\n")[0])["text"]

    def status(path: str, **how: Any) -> int:
        try:
            return httpx.request("GET", url + path, timeout=10, **how).status_code
        except httpx.HTTPError:
            return 0

    def answered(**headers: str) -> str:
        """Who answered."""
        # The first row that the tiny teacher learned; to others it may say nothing.
        body = {"messages": [{"role": "user", "content": text}]}
        headers = {"Authorization": f"Bearer {CALLERS_KEY}", **headers}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200 and answer.json()["choices"][0]["message"], answer.text
        return str(answer.headers["X-Redistill-Route"])

    wait_for(lambda: status("/healthz") == 200, "the router lives", 120)
    assert status("/v1/models") == 401
    assert status("/v1/models", headers={"Authorization": f"Bearer {CALLERS_KEY}"}) == 200
    assert status("/metrics") == 200
    for service in ("teacher", "student", "router"):
        wait_for(lambda name=service: health(name) == "healthy", f"the {service} is healthy", 600)
    print(f"teacher, student and router healthy: {time.monotonic() - begin:.0f} s")
    wait_for(lambda: answered() == "student", "the student answers", 120)
    served = podman("exec", container("student"), "python", "-c", NAMES).stdout.split()
    # The router's image has no torch, so the server says its number format.
    assert served in (["tiny@1", "tiny@1:float32"], ["tiny@1", "tiny@1:bfloat16"])
    assert answered(**{"X-Redistill-Route": "teacher"}) == "teacher"
    podman("stop", "--time", "30", container("student"))
    assert answered() == "teacher", "while the student's server is away"


def test_the_pages_show_the_night(team: Compose, prefect: httpx.Client, ports: dict[str, int], browser: Browser) -> None:  # noqa: F811
    night = cycles(prefect)[-1]
    page = f"http://127.0.0.1:{ports['prefect']}"
    browser.open_address(page, 1500)
    # Its page keeps the password where this line puts it; a person types it once.
    browser.evaluate("localStorage.setItem('prefect-password', btoa('admin:secret-of-PREFECT_PASSWORD'))")
    browser.open_address(f"{page}/runs/flow-run/{night['id']}", 1500)
    browser.wait_for(night["name"], "Completed", "submitted to infrastructure")
    picture(browser, "compose-prefect")
    page = f"127.0.0.1:{ports['mlflow']}"
    # Once with the account; scripts of a page may not ask an address that has one.
    browser.open_address(f"http://admin:secret-of-MLFLOW_PASSWORD@{page}/version", 1500)
    browser.open_address(f"http://{page}/#/models/tiny/versions/1", 1500)
    browser.wait_for("tiny", "Version 1")
    picture(browser, "compose-mlflow")


def picture(browser: Browser, name: str) -> None:  # noqa: F811
    if SHOTS:
        browser.screenshot(Path(SHOTS, f"{name}.png"))


def test_the_small_image_is_not_root_and_needs_no_writable_root(images: None) -> None:
    run = ("run", "--rm", "--read-only", "--tmpfs", "/tmp:mode=1777", "--env", "HOME=/tmp", "--cap-drop", "ALL", SMALL)
    assert podman(*run, "id", "-u").stdout.strip() == str(USER)
    missing = podman(*run, "python", "-c", "import importlib.util as u; print(*[n for n in ('torch', 'vllm', 'peft') if u.find_spec(n)])")
    assert missing.stdout.strip() == ""
    assert "Usage" in podman(*run, "redistill", "--help").stdout


def test_a_project_of_another_user_is_one_line(images: None, tmp_path: Path) -> None:
    """The volume belongs to root, and the image's user is 10001."""
    path = make_tiny_project(tmp_path / "project")
    path.chmod(0o755)
    passable(path)
    done = podman("run", "--rm", "-v", f"{path}:/project", LARGE, "redistill", "run", check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == DataError.exit_code and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert lines[0] == "error: no access to /project/.redistill: Permission denied; give the user with id 10001 access to it"
