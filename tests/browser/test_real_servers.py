"""What a person sees of a night in the UIs of the real servers: names that are sentences, evidence, and links that lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.box import Box
from tests.browser.chromium import Browser
from tests.cycles import FirstCycle
from tests.e2e.test_promotion import LENIENT
from tests.servers import ask, free_port, until
from tests.tiny_project import write_params

pytestmark = pytest.mark.cycles

SHOTS = os.environ.get("REDISTILL_SCREENSHOTS")
"""A folder that gets a picture of each page, for docs/."""
WAITS = "version 1 waits for a person's approval"


@pytest.fixture(scope="module")
def night(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, dict[str, Any]]]:
    """A box whose first night has ended: a version passes every gate and waits for a person."""
    project = Path(shutil.copytree(first_cycle.template, tmp_path_factory.mktemp("seen") / "project", symlinks=True))
    write_params(project, **LENIENT, promote__approval="person", economics={"machine_usd_per_hour": 0.2})
    box = Box(project, free_port(), free_port())
    started = box.up()
    try:
        assert started.returncode == 0, started.stderr
        nightly = box.deployments()["distill_student"]["id"]
        body = {"state": {"type": "SCHEDULED"}, "parameters": {"reason": "nightly"}}
        run = ask("POST", f"{box.api}/deployments/{nightly}/create_flow_run", body).json()["id"]
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        ended = until(f"{box.api}/flow_runs/{run}", good=lambda r: r.status_code == 200 and r.json()["state_type"] in final, timeout_s=600)
        assert ended.json()["state_type"] == "COMPLETED", ended.json()
        yield box, ended.json()
    finally:
        box.run("down")


def shown(browser: Browser, address: str, name: str, *texts: str) -> str:
    browser.open_address(address, 1500)
    text = browser.wait_for(*texts)
    if SHOTS:
        browser.screenshot(Path(SHOTS, f"{name}.png"))
    return text


def artifact(box: Box, kind: str) -> dict[str, Any]:
    body = {"artifacts": {"key": {"any_": [f"tiny-{kind}"]}}}
    [found] = ask("POST", f"{box.api}/artifacts/latest/filter", body).json()
    return dict(found)


def test_the_list_of_runs_reads_as_sentences(browser: Browser, night: tuple[Box, dict[str, Any]]) -> None:
    box, run = night
    assert run["name"] == f"tiny · nightly · hold: {WAITS}" and run["state"]["message"] == f"hold: {WAITS}"
    shown(browser, f"http://127.0.0.1:{box.prefect}/runs", "prefect-runs", run["name"])


def test_deployments_say_what_they_do(browser: Browser, night: tuple[Box, dict[str, Any]]) -> None:
    box, _ = night
    shown(browser, f"http://127.0.0.1:{box.prefect}/deployments", "prefect-deployments", "tiny-nightly", "watch-teacher", "drill-fallback")


def test_a_night_has_its_steps_and_no_error(browser: Browser, night: tuple[Box, dict[str, Any]]) -> None:
    box, run = night
    text = shown(browser, f"http://127.0.0.1:{box.prefect}/runs/flow-run/{run['id']}", "prefect-run", run["name"], "INFO")
    assert "ERROR" not in text and "CRITICAL" not in text
    tasks = ask("POST", f"{box.api}/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}}).json()
    edges = [
        source for task in tasks for sources in task["task_inputs"].values() for source in sources if source["input_type"] == "task_run"
    ]
    assert len(tasks) > 20 and not edges, "the graph is a line of time without edges"


def test_the_decision_has_its_evidence_and_its_links_lead_somewhere(browser: Browser, night: tuple[Box, dict[str, Any]]) -> None:
    box, _ = night
    decision = artifact(box, "decision")
    ui, mlflow = f"http://127.0.0.1:{box.prefect}", f"http://127.0.0.1:{box.mlflow}"
    text = shown(
        browser,
        f"{ui}/artifacts/artifact/{decision['latest_id']}",
        "prefect-decision",
        "passed, but not promoted: version 1",
        "non inferior to teacher",
    )
    assert "against the teacher's" in text and "one-sided p" in text
    links = dict(re.findall(r"\[([^\]]+)\]\(([^)]+)\)", decision["data"]))
    assert {address.partition("/#/")[0] for name, address in links.items() if "MLflow" in name} == {mlflow}
    shown(browser, links["version 1 in MLflow"], "mlflow-version", "Version 1", "redistill")
    text = shown(browser, links["this cycle in MLflow"], "mlflow-run", "passed, but not promoted: version 1", "cycle/")
    form = shown(browser, links["decide about a version"], "prefect-form", "action", "reason")
    assert "version" in form
    for file in re.findall(r"`([^`]+)`", decision["data"]):
        assert (box.project / file).is_file(), file


def test_trends_are_an_artifact_and_a_page(browser: Browser, night: tuple[Box, dict[str, Any]]) -> None:
    box, _ = night
    shown(
        browser,
        f"http://127.0.0.1:{box.prefect}/artifacts/artifact/{artifact(box, 'trends')['latest_id']}",
        "prefect-trends",
        "the last nights",
        WAITS,
    )
    shown(browser, (box.project / "artifacts/trends/index.html").as_uri(), "trends", "Nights", WAITS)


def test_cycles_have_columns_in_mlflow(browser: Browser, night: tuple[Box, dict[str, Any]]) -> None:
    box, _ = night
    mlflow = f"http://127.0.0.1:{box.mlflow}"
    found = ask("GET", f"{mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name=redistill/tiny").json()["experiment"][
        "experiment_id"
    ]
    shown(browser, f"{mlflow}/#/experiments/{found}/runs", "mlflow-runs", "hold: version 1")
    [run] = ask("POST", f"{mlflow}/api/2.0/mlflow/runs/search", {"experiment_ids": [found]}).json()["runs"]
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert 0.5 < metrics["cycle/student_quality"] <= 1.0 and metrics["cycle/asked_rows"] == 0 and metrics["cycle/usd"] > 0
    assert metrics["cycle/student_share"] == 0.0 and metrics["cycle/disk_bytes"] > 1e6
