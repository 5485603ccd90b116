"""infra/: the image does not run as root, ports are open on this machine only, and what the image copies exists."""

from __future__ import annotations

import re
import subprocess
import sys
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
    assert {file.stem for file in (ROOT / "requirements").glob("*.txt")} - {"overrides", "compose"} == {"cpu", "cuda", "services"}


def test_the_small_image_has_the_versions_of_the_large_one_and_no_torch() -> None:
    """Prefect's client and server must have one version, and the router checks what the runner has signed."""
    locks = {
        name: dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8"), re.M))
        for name in ("cpu", "services")
    }
    small, large = locks["services"], locks["cpu"]
    assert {name for name in small if large.get(name) != small[name]} == set()
    # transformers: the router reads tokenizers with it, which needs no torch.
    assert {"prefect", "mlflow", "aiohttp", "psycopg2-binary", "boto3", "hatchling", "transformers"} <= set(small)
    assert not {"torch", "vllm", "peft", "accelerate", "ray", "triton", "pytest"} & set(small)


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


def test_what_serves_shares_the_projects_volume_and_starts_only_where_it_is_asked_for() -> None:
    assert set(COMPOSE["volumes"]) == {"prefect", "mlflow", "project"}
    serving = {name for name, body in SERVICES.items() if body.get("profiles") == ["serving"]}
    assert serving == {"router", "student", "teacher"} == set(SERVICES) - {"prefect", "mlflow", "runner"}
    assert {SERVICES[name]["volumes"][0] for name in (*serving, "runner")} == {"${REDISTILL_PROJECT:-project}:/project"}


def test_the_models_have_no_port_outside_and_the_router_asks_them_with_the_keys_that_they_need() -> None:
    assert not [name for name in ("student", "teacher") if "ports" in SERVICES[name]]
    for name in ("student", "teacher"):
        assert SERVICES[name]["command"] == ["redistill", "serve-model", name, "--host", "0.0.0.0", "--port", "8000"]
        key = f"REDISTILL_{name.upper()}_API_KEY"
        assert key in environment(name) and key in environment("router")
    values = dict(line.partition("=")[::2] for line in SERVICES["router"]["environment"])
    assert values["REDISTILL_STUDENT_URL"] == "http://student:8000/v1"
    assert values["REDISTILL_TEACHER_URL"] == "${REDISTILL_TEACHER_URL:-http://teacher:8000/v1}"


@pytest.mark.parametrize("name", ["router", "student", "teacher"])
def test_what_is_open_inside_needs_a_key_and_names_commands_that_exist(name: str) -> None:
    """Each of these commands refuses ``--host 0.0.0.0`` without its key (tests/integration), so a forgotten key opens nothing."""
    command = SERVICES[name]["command"]
    assert command[0] == "redistill" and command[command.index("--host") + 1] == "0.0.0.0"
    done = subprocess.run([sys.executable, "-m", *command, "--help"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0 and "--host" in done.stdout and "key" in done.stdout


def test_a_runner_that_is_made_again_is_the_same_machine_and_the_router_another_one() -> None:
    """The workspace's id has the name of the machine; the router's record says on which machine its token counts."""
    assert SERVICES["runner"]["hostname"] == "${REDISTILL_HOSTNAME:-redistill-runner}"
    assert not [name for name, body in SERVICES.items() if "hostname" in body and name != "runner"]


def test_the_runner_waits_for_both_servers_and_uses_them() -> None:
    body = SERVICES["runner"]
    assert {name: how["condition"] for name, how in body["depends_on"].items()} == dict.fromkeys(("prefect", "mlflow"), "service_healthy")
    assert {"PREFECT_API_URL=http://prefect:4200/api", "MLFLOW_TRACKING_URI=http://mlflow:5000"} <= set(body["environment"])
    assert "--allowed-hosts=mlflow:5000,localhost:*,127.0.0.1:*" in SERVICES["mlflow"]["command"]
    assert body["command"] == ["redistill", "watch"]


def test_no_secret_has_a_value() -> None:
    secret = re.compile("KEY|TOKEN|PASSWORD|SECRET|HEADERS")
    named = {name for service in SERVICES for name in environment(service) if secret.search(name)}
    lines = {line for body in SERVICES.values() if isinstance(body["environment"], list) for line in body["environment"]}
    assert {"REDISTILL_TEACHER_API_KEY", "REDISTILL_SIGNING_KEY", "REDISTILL_SERVE_API_KEY"} <= named <= lines
