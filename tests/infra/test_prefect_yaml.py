"""prefect.yaml: Prefect reads it, has every key in its models, registers all deployments on a real server, and a worker of a process pool runs one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from redistill.runtime.environment import child_environment
from tasks.running.cycle_lock import one_cycle
from tests.infra.validators import INFRA
from tests.servers import ask, free_port, stop, until
from tests.tiny_project import make_tiny_project

FILE = INFRA / "prefect.yaml"
TREE = yaml.safe_load(FILE.read_text(encoding="utf-8"))
BIN = Path(sys.executable).parent
POOLS = {"redistill-process": "process", "redistill-docker": "docker", "redistill-kubernetes": "kubernetes"}
NAMES = {f"tiny-{kind}": pool for pool, kind in POOLS.items()}


def test_prefect_has_each_key() -> None:
    """Prefect ignores a key that it does not know, so a misspelt one would do nothing."""
    from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, WorkPoolConfig

    PrefectYamlModel.model_validate(TREE)
    known = {field.alias or name for name, field in PrefectYamlModel.model_fields.items()}
    assert set(TREE) - known == {"definitions"}
    for deployment in TREE["deployments"]:
        assert set(deployment) <= set(DeploymentConfig.model_fields)
        assert set(deployment["work_pool"]) <= set(WorkPoolConfig.model_fields)
    assert {deployment["work_pool"]["name"] for deployment in TREE["deployments"]} == set(POOLS)


def test_every_variable_is_listed_and_checked_before_anything_is_registered() -> None:
    text = FILE.read_text(encoding="utf-8")
    used = set(re.findall(r"\{\{ \$(\w+) \}\}", text))
    [[step]] = [list(each.values()) for each in TREE["build"]]
    assert used == set(re.findall(r"\$\{(\w+):\?", step["script"])) == set(re.findall(r"^#   (REDISTILL_\w+) ", text, re.M))


def job_template(api: str, kind: str) -> Any:
    """The template of a pool, as `prefect work-pool create` takes it: our own for Kubernetes, Prefect's for the others."""
    if kind == "kubernetes":
        return json.loads((INFRA / "k8s/job-template.json").read_text(encoding="utf-8"))
    kinds = ask("GET", f"{api}/collections/views/aggregate-worker-metadata").json()
    return next(each[kind]["default_base_job_configuration"] for each in kinds.values() if kind in each)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_tiny_project(tmp_path / "project")


@pytest.fixture
def pools(prefect_api: str) -> Iterator[None]:
    for name, kind in POOLS.items():
        made = ask(
            "POST", f"{prefect_api}/work_pools/", json={"name": name, "type": kind, "base_job_template": job_template(prefect_api, kind)}
        )
        assert made.status_code == 201, made.text
    yield
    for deployment in ask("POST", f"{prefect_api}/deployments/filter", json={}).json():
        ask("DELETE", f"{prefect_api}/deployments/{deployment['id']}")
    for name in POOLS:
        ask("DELETE", f"{prefect_api}/work_pools/{name}")


def environment(project: Path, api: str, home: Path, **changes: str) -> dict[str, str]:
    named = {"DATA_NAME": "tiny", "FOLDER": str(project), "FLOWS": str(project), "IMAGE": "localhost/redistill"}
    variables = {f"REDISTILL_{name}": value for name, value in named.items()}
    servers = {"PREFECT_HOME": str(home), "PREFECT_API_URL": api, "PYTHONPATH": str(project), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    return {**child_environment(), **servers, **variables, **changes}


def deploy(project: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "prefect"), "--no-prompt", "deploy", "--all", "--prefect-file", str(FILE)]
    return subprocess.run(command, cwd=project, env=dict(variables), capture_output=True, text=True, check=False, timeout=300)


def registered(api: str) -> dict[str, Any]:
    return {each["name"]: each for each in ask("POST", f"{api}/deployments/filter", json={}).json()}


@pytest.mark.usefixtures("pools")
def test_nothing_is_registered_where_a_variable_is_missing(project: Path, prefect_api: str, prefect_home: Path) -> None:
    variables = environment(project, prefect_api, prefect_home)
    del variables["REDISTILL_IMAGE"]
    done = deploy(project, variables)
    assert "REDISTILL_IMAGE: is not set" in done.stdout + done.stderr
    assert registered(prefect_api) == {}


@pytest.mark.usefixtures("pools")
def test_a_worker_of_the_process_pool_runs_what_was_registered(
    project: Path, prefect_api: str, prefect_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment(project, prefect_api, prefect_home)
    done = deploy(project, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    deployments = registered(prefect_api)
    assert {name: each["work_pool_name"] for name, each in deployments.items()} == NAMES
    assert {each["entrypoint"] for each in deployments.values()} == {"flows.distill_student.distill_student"}
    assert all(set(each["tags"]) == {"redistill", "data:tiny"} and not each["schedules"] for each in deployments.values())
    assert "{{" not in json.dumps([each["job_variables"] for each in deployments.values()])
    assert deployments["tiny-kubernetes"]["job_variables"]["image"] == "localhost/redistill"

    port = free_port()
    web = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
    worker = subprocess.Popen(
        [str(BIN / "prefect"), "worker", "start", "--pool", "redistill-process", "--with-healthcheck"],
        cwd=project.parent,
        env={name: value for name, value in {**variables, **web}.items() if name != "PYTHONPATH"},
        start_new_session=True,
    )
    try:
        until(f"http://127.0.0.1:{port}/health", timeout_s=120, process=worker)
        # While this process has the project's lock, the run is declined in seconds: it has found the flow, the folder and its params.
        monkeypatch.chdir(project)
        with one_cycle(print):
            created = ask("POST", f"{prefect_api}/deployments/{deployments['tiny-process']['id']}/create_flow_run", json={})
            ended = until(
                f"{prefect_api}/flow_runs/{created.json()['id']}",
                good=lambda r: r.json()["state_type"] in ("COMPLETED", "FAILED", "CRASHED"),
                timeout_s=180,
                process=worker,
            ).json()
    finally:
        stop(worker)
    assert (ended["state_type"], ended["state_name"]) == ("COMPLETED", "Queued"), ended["state"]
    assert f"a cycle runs already (process {os.getpid()})" in ended["state"]["message"] + ended["name"], ended
