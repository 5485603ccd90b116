"""compose.team.yaml: a missing secret is refused by name, passwords are in no address, stores are closed, and env.example lists every variable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra import validators
from tests.infra.validators import INFRA, ONE_BOX, TEAM

TEXT = (INFRA / "compose.team.yaml").read_text(encoding="utf-8")
FILE = yaml.safe_load(TEXT)
EXAMPLE = (INFRA / "env.example").read_text(encoding="utf-8")
REQUIRED = sorted(set(re.findall(r"\$\{(\w+):\?", TEXT)))
STORES = ("postgres", "s3")

compose = pytest.mark.skipif(
    validators.docker_compose() is None, reason="no Docker Compose 2 here; `make check` fetches it on Linux x86-64"
)


def read(env_file: Path, files: tuple[str, ...] = TEAM) -> dict[str, Any]:
    done = validators.merged(files, env_file)
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = yaml.safe_load(done.stdout)
    return tree


@compose
@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_secret_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    done = validators.merged(TEAM, validators.filled_example(tmp_path, without=name))
    assert done.returncode != 0 and f"set {name} in the env file (infra/env.example is its pattern)" in done.stderr, done.stderr


@compose
@pytest.mark.parametrize("name", REQUIRED)
def test_an_empty_secret_is_refused_too(tmp_path: Path, name: str) -> None:
    done = validators.merged(TEAM, validators.filled_example(tmp_path, **{name: ""}))
    assert done.returncode != 0 and name in done.stderr


@compose
def test_one_box_needs_no_env_file_and_knows_no_store() -> None:
    done = validators.merged(ONE_BOX, None)
    assert done.returncode == 0, done.stderr
    tree = yaml.safe_load(done.stdout)
    assert not {*STORES, "buckets"} & set(tree["services"])
    assert tree["services"]["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"] == "sqlite:////state/mlflow.db"


@compose
def test_a_password_with_the_characters_of_an_address_arrives_as_it_is(tmp_path: Path) -> None:
    odd = "p@ss:/?#&='$HOME %41"
    services = read(validators.filled_example(tmp_path, PREFECT_DATABASE_PASSWORD="'p@ss:/?#&=\\'$HOME %41'"))["services"]
    # The file that compose prints is one that compose reads again, so a dollar sign is doubled.
    assert services["prefect"]["environment"]["PGPASSWORD"].replace("$$", "$") == odd
    assert services["postgres"]["environment"]["PREFECT_DATABASE_PASSWORD"].replace("$$", "$") == odd


@compose
def test_both_servers_use_the_stores_and_ask_for_passwords(tmp_path: Path) -> None:
    services = read(validators.filled_example(tmp_path))["services"]
    prefect, mlflow, runner = (services[name]["environment"] for name in ("prefect", "mlflow", "runner"))
    assert prefect["PREFECT_SERVER_DATABASE_CONNECTION_URL"].startswith("postgresql+asyncpg://prefect@postgres:")
    assert mlflow["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://mlflow@postgres:")
    assert mlflow["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://") in services["buckets"]["command"]
    assert prefect["PREFECT_SERVER_API_AUTH_STRING"] == runner["PREFECT_API_AUTH_STRING"] == "admin:secret-of-PREFECT_PASSWORD"
    assert (
        mlflow["MLFLOW_AUTH_ADMIN_PASSWORD"]
        == runner["MLFLOW_TRACKING_PASSWORD"]
        == services["student"]["environment"]["MLFLOW_TRACKING_PASSWORD"]
    )
    base = yaml.safe_load((INFRA / "compose.yaml").read_text(encoding="utf-8"))["services"]["mlflow"]["command"].split()
    assert sorted(services["mlflow"]["command"]) == sorted([*base, "--app-name=basic-auth"])
    # Leases of a deployment's place stay on the volume, as in the set for one box.
    assert prefect["PREFECT_HOME"] == "/state" and [volume["target"] for volume in services["prefect"]["volumes"]] == ["/state"]


@compose
def test_stores_are_reached_only_by_what_needs_them(tmp_path: Path) -> None:
    tree = read(validators.filled_example(tmp_path))
    networks = {name: set(body["networks"]) for name, body in tree["services"].items()}
    assert {name for name, joined in networks.items() if "database" in joined} == {"postgres", "prefect", "mlflow"}
    assert {name for name, joined in networks.items() if "objects" in joined} == {"s3", "buckets", "mlflow", "runner"}
    assert all(tree["networks"][name]["internal"] for name in ("database", "objects"))
    assert not [name for name in STORES if "ports" in tree["services"][name]]
    assert all(port["host_ip"] == "127.0.0.1" for body in tree["services"].values() for port in body.get("ports", ()))


@pytest.mark.parametrize("name", STORES)
def test_a_store_restarts_has_an_init_process_and_a_health_check(name: str) -> None:
    body = FILE["services"][name]
    assert body["restart"] == "unless-stopped" and body["init"] and body["cap_drop"] == ["ALL"]
    assert re.fullmatch(r"\$\{\w+_IMAGE:-docker\.io/\S+:\S+\}", body["image"]), "an image with a version, behind a variable"
    [folder, *_] = body["volumes"]
    assert folder.split(":")[0] in FILE["volumes"] and body["healthcheck"]["test"][0] == "CMD-SHELL"


def test_no_address_holds_a_password() -> None:
    assert not re.findall(r"://[^\s/]*:[^\s/@]*@", TEXT + (INFRA / "mlflow-auth.ini").read_text(encoding="utf-8"))


def test_env_example_lists_every_variable_and_no_value_of_a_secret() -> None:
    listed = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", EXAMPLE, re.M))
    base = (INFRA / "compose.yaml").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)[:}]", base + TEXT))
    assert used <= listed, used - listed
    by_name = set(re.findall(r"^\s+- (REDISTILL_\w+)$", base, re.M))
    assert listed <= used | by_name, listed - used - by_name
    empty = set(re.findall(r"^([A-Z][A-Z0-9_]+)=$", EXAMPLE, re.M))
    assert set(REQUIRED) <= empty and set(re.findall(r"^([A-Z][A-Z0-9_]+)=.+$", EXAMPLE, re.M)) == set()


def test_the_databases_are_those_of_the_addresses() -> None:
    made = (INFRA / "postgres/databases.sh").read_text(encoding="utf-8")
    addresses = re.findall(r"postgresql\+\w+://(\w+)@postgres:5432/(\w+)", TEXT + (INFRA / "mlflow-auth.ini").read_text(encoding="utf-8"))
    assert set(re.findall(r"CREATE DATABASE (\w+) OWNER (\w+);", made)) == {(name, owner) for owner, name in addresses}
    assert set(re.findall(r"\\getenv \w+ (\w+)", made)) <= set(REQUIRED)
