"""infra/: the image does not run as root, ports are open on this machine only, and what the image copies exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from redistill.cli.bundled import PARTS
from redistill.runtime.environment import QUIET
from tests.tiny_project import ROOT

INFRA = ROOT / "infra"
IMAGE = (INFRA / "Containerfile").read_text(encoding="utf-8")
FINAL = IMAGE[IMAGE.rindex("\nFROM ") :]
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]


def environment(service: str) -> set[str]:
    """The names of a service's variables, which are a list where some take their value from outside."""
    return {line.partition("=")[0] for line in SERVICES[service]["environment"]}


def test_the_base_is_an_argument_and_every_stage_is_made_from_it() -> None:
    assert re.search(r"^ARG BASE=\S+$", IMAGE, re.M)
    [first, *others] = re.findall(r"^FROM (\S+)", IMAGE, re.M)
    assert first == "${BASE}" and set(others) <= set(re.findall(r"^FROM \S+ AS (\S+)$", IMAGE, re.M))


def test_the_user_is_not_root_and_an_init_is_process_1() -> None:
    assert re.findall(r"^USER (.+)$", FINAL, re.M) == ["10001:10001"] and "--uid 10001" in FINAL
    assert re.search(r'^ENTRYPOINT \["/usr/bin/tini", "--"\]$', FINAL, re.M) and " tini" in IMAGE


def test_packages_are_those_of_the_lock() -> None:
    assert "--require-hashes" in IMAGE and re.search(r"^ARG LOCK=cpu$", IMAGE, re.M)
    assert {file.stem for file in (ROOT / "requirements").glob("*.txt")} - {"overrides"} == {"cpu", "cuda"}


def test_what_the_wheel_is_built_from_is_copied_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", IMAGE, re.M) for name in line.split()}
    assert {name.split("/")[0] for name in copied} == kept
    assert all((ROOT / name.replace("${LOCK}", "cpu")).exists() for name in copied), copied
    assert {*PARTS, "src", "dvc.yaml", "pyproject.toml", "README.md", "LICENSE"} <= copied


def test_telemetry_is_off_in_the_image_as_in_commands() -> None:
    switches = {name: value for name, value in QUIET.items() if name.startswith(("DO_NOT", "MLFLOW", "PREFECT"))}
    assert switches == {name: value for name in switches for value in re.findall(rf"{name}=(\S+)", FINAL)}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_healthy_keeps_its_files_and_is_closed(service: str) -> None:
    body = SERVICES[service]
    assert all(port.startswith("127.0.0.1:") for port in body.get("ports", ()))
    command, python, script, url = body["healthcheck"]["test"]
    assert (command, python) == ("CMD", "python") and url.startswith("http://127.0.0.1:"), "the image has no curl"
    assert (INFRA / Path(script).name).is_file()
    assert not re.search(r"\s", script + url), "podman-compose 1.0 loses the quotes of an argument with spaces"
    [volume] = body["volumes"]
    name, folder = re.fullmatch(r"(?:\$\{\w+:-)?(\w+)\}?:(/\w+)", volume).groups()  # type: ignore[union-attr]
    assert name in COMPOSE["volumes"]
    assert re.search(rf"install -d -o redistill -g redistill .*{folder}\b", FINAL), "a new volume takes the owner of the image's folder"
    assert body["restart"] == "unless-stopped" and body["cap_drop"] == ["ALL"]


def test_volumes_are_one_a_service() -> None:
    assert set(COMPOSE["volumes"]) == {"prefect", "mlflow", "project"} and len(SERVICES) == 3


def test_the_runner_waits_for_both_servers_and_uses_them() -> None:
    body = SERVICES["runner"]
    assert {name: how["condition"] for name, how in body["depends_on"].items()} == dict.fromkeys(("prefect", "mlflow"), "service_healthy")
    assert {"PREFECT_API_URL=http://prefect:4200/api", "MLFLOW_TRACKING_URI=http://mlflow:5000"} <= set(body["environment"])
    assert "--allowed-hosts=mlflow:5000,localhost:*,127.0.0.1:*" in SERVICES["mlflow"]["command"]
    assert body["command"] == ["redistill", "watch"]


def test_no_secret_has_a_value() -> None:
    named = {name for service in SERVICES for name in environment(service) if re.search("KEY|TOKEN|PASSWORD|SECRET", name)}
    assert {"REDISTILL_TEACHER_API_KEY", "REDISTILL_SIGNING_KEY"} <= named <= set(SERVICES["runner"]["environment"])
