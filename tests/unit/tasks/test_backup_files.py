"""Which files a backup holds, and what it says about the rest."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from redistill.errors import DataError
from redistill.params import Params, parse_params
from tasks.operations.backup.files import collected
from tasks.operations.backup.mlflow_addresses import move_artifacts, snapshot
from tasks.operations.kept.bundle_names import Names, names_in
from tests.tiny_project import params

NOBODY = 65534


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    files = {
        "params.yaml": yaml.safe_dump(params("0" * 64)),
        "dvc.yaml": "stages: {}\n",
        "labelled.jsonl": "{}\n",
        "terms.md": "terms\n",
        "notes.md": "a person's own\n",
        "teacher/config.json": "{}\n",
        "tasks/stages/own.py": "",
        "tasks/__pycache__/own.pyc": "",
        ".redistill/keys/signing.pem": "key\n",
        ".redistill/secrets.env": "REDISTILL_TEACHER_API_KEY=x\n",
        ".redistill/work/finetune-kd-1/model": "unfinished\n",
        ".redistill/services/logs/runner.log": "log\n",
        ".redistill/serving/router.json": '{"token": "of a drill"}\n',
        ".redistill/cycle.lock": "1\n",
        ".redistill/mlflow/mlflow.lock": "",
        ".redistill/mlflow/artifacts/run/artifacts/evidence/dvc.lock": "schema: '2.0'\n",
        ".redistill/tmpabc/scratch": "",
        "artifacts/route/flags.json": "{}\n",
        "artifacts/route/flags.lock": "",
        "artifacts/students/kd/model.safetensors": "an output\n",
        "dvc.lock": yaml.safe_dump(
            {
                "schema": "2.0",
                "stages": {"finetune@kd": {"cmd": "x", "outs": [{"path": "artifacts/students/kd", "md5": "f" * 32, "hash": "md5"}]}},
            }
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def parsed(**data: object) -> Params:
    tree = params("0" * 64)
    tree["data"] |= data
    return parse_params(tree)


def test_it_holds_what_cannot_be_made_again(project: Path) -> None:
    files, notes = collected(parsed(), Names())
    assert [name for name, _ in files] == [
        ".redistill/keys/signing.pem",
        ".redistill/mlflow/artifacts/run/artifacts/evidence/dvc.lock",
        "artifacts/route/flags.json",
        "dvc.lock",
        "dvc.yaml",
        "labelled.jsonl",
        "params.yaml",
        "tasks/stages/own.py",
        "teacher/config.json",
        "terms.md",
    ]
    assert notes == [
        ".redistill/secrets.env is not in the archive; keep its content where you keep secrets",
        "1 outputs of dvc.lock are not in DVC's cache (artifacts/students/kd); `dvc commit` puts what is in the workspace there",
    ]


def test_files_outside_of_the_project_are_named(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "rows.jsonl"
    outside.write_text("{}\n", encoding="utf-8")
    sources = [
        {"path": str(outside), "splits": {"train": 0.6, "dev": 0.2, "heldout": 0.2}},
        {"path": "labelled.jsonl", "splits": {"pool": 1.0}},
    ]
    files, notes = collected(parsed(source=sources), Names())
    assert notes[0] == f"{outside}: outside of the project, so not in the archive"
    assert str(outside) not in dict(files) and "labelled.jsonl" in dict(files)


def test_runs_on_a_server_are_not_its_business(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert not [name for name, _ in collected(parsed(), Names())[0] if "mlflow" in name]


def test_a_cache_outside_of_the_project_is_named(project: Path) -> None:
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text("[cache]\n    dir = /somewhere/else\n", encoding="utf-8")
    _, notes = collected(parsed(), Names(objects=frozenset({"f" * 32})))
    assert notes[-1] == "DVC's cache lies outside of the project, so it is not in the archive: back it up itself, or use `dvc push`"


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may not read everything; root may."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("folder", ["teacher", ".redistill/keys"])
def test_a_folder_that_cannot_be_read_is_named(project: Path, folder: str) -> None:
    project.chmod(0o755)
    (project / folder).chmod(0)
    try:
        with without_rights(), pytest.raises(DataError, match=rf"{folder} cannot be read \(Permission denied\); fix its permissions"):
            collected(parsed(), Names())
    finally:
        (project / folder).chmod(0o755)


def test_names_of_a_damaged_lock_are_an_error(project: Path) -> None:
    assert names_in(project).objects == {"f" * 32} and names_in(project).models == {"teacher"}
    (project / "teacher.lock.json").write_text('{"current": {}}', encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        names_in(project)


def test_addresses_of_artifacts_move_and_others_stay(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    old, new = "file:///old%20place/artifacts", "file:///new/artifacts"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for table, columns in {
            "experiments": "artifact_location",
            "runs": "artifact_uri",
            "logged_models": "artifact_location",
            "model_versions": "source, storage_location",
        }.items():
            connection.execute(f"CREATE TABLE {table} ({columns})")
        connection.executemany("INSERT INTO runs VALUES (?)", [(f"{old}/1/artifacts",), (f"{old}-2/1",), ("s3://bucket/1",), (old,)])
        connection.execute("INSERT INTO model_versions VALUES ('models:/m-1', ?)", (f"{old}/models/m-1/artifacts",))
        copy = tmp_path / "copy.db"
        connection.commit()
        snapshot(database, copy)  # while somebody else has the database open
    move_artifacts(copy, old, new)
    with closing(sqlite3.connect(copy)) as connection:
        assert [row[0] for row in connection.execute("SELECT * FROM runs")] == [f"{new}/1/artifacts", f"{old}-2/1", "s3://bucket/1", new]
        assert connection.execute("SELECT * FROM model_versions").fetchone() == ("models:/m-1", f"{new}/models/m-1/artifacts")
    assert [p.name for p in tmp_path.glob("copy*")] == ["copy.db"]
    (tmp_path / "other.db").write_bytes(b"")
    with pytest.raises(DataError, match="the addresses in MLflow's file cannot be moved"):
        move_artifacts(tmp_path / "other.db", old, new)
