"""Databases with the schema of another release: one line that names the command, nothing migrated behind anybody's back, and the command works."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from redistill.errors import ConfigError
from redistill.io.digests import file_digest
from redistill.runtime.environment import child_environment
from redistill.runtime.schema_revisions import revisions
from tasks.operations.prefect_database import CONNECTION, check_prefect_database
from tests.cycles import Command, with_registry
from tests.forks import ForkServer
from tests.team.backing import TeamServices
from tests.tiny_project import write_params

NEWER = "ffffffffffff"


@pytest.fixture
def project(tmp_path: Path, empty_registry: Path) -> Path:
    """As much of a project as `redistill status` reads."""
    made = with_registry(tmp_path / "project", empty_registry)
    (made / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    (made / "terms.md").write_text("Made for this test.\n", encoding="utf-8")
    write_params(made)
    return made


def stamp(database: Path, revision: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def older_mlflow(database: Path) -> None:
    """A store as the release before the last migration made it."""
    import sqlalchemy
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    database.unlink()
    address = f"sqlite:///{database}"
    engine = sqlalchemy.create_engine(address)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(address)
    scripts = ScriptDirectory.from_config(config)
    newest = scripts.get_revision("head")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, str(newest.down_revision))
    engine.dispose()


def told(line: str) -> list[str]:
    """The command that a message names."""
    [command] = re.findall(r"`((?:PREFECT_HOME=\S+ )?(?:mlflow|prefect) [^`]+)`", line)
    return shlex.split(command)


def test_an_older_store_of_mlflow_is_migrated_by_the_command_that_the_line_names(
    project: Path, redistill: Command, fork_server: ForkServer
) -> None:
    database = project / ".redistill/mlflow/mlflow.db"
    older_mlflow(database)
    before = file_digest(database)
    for command in ("status", "history", "gc", "backup"):
        refused = redistill(project, command, *(["out.tar.gz"] if command == "backup" else []))
        lines = refused.stderr.strip().splitlines()
        assert refused.code == 6 and "was written by an older MLflow" in lines[-1] and "copy the file to a safe place" in lines[-1]
    assert file_digest(database) == before, "nothing was migrated"
    program, *arguments = told(lines[-1])
    done = fork_server.run(program, *arguments, env=child_environment(), server=fork_server.commands)
    assert done.returncode == 0, done.stderr
    assert redistill(project, "status").code == 0


def test_a_newer_store_of_mlflow(project: Path, redistill: Command) -> None:
    stamp(project / ".redistill/mlflow/mlflow.db", NEWER)
    refused = redistill(project, "status")
    assert refused.code == 6 and f"a newer MLflow (schema {NEWER})" in refused.stderr and "restore the backup" in refused.stderr


def prefect_file(home: Path, revision: str) -> None:
    home.mkdir(exist_ok=True)
    with closing(sqlite3.connect(home / "prefect.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


def earlier_of_prefect(kind: str) -> str:
    """A revision that the installed Prefect can migrate."""
    known = revisions("prefect", f"server/database/_migrations/versions/{kind}")
    return sorted(known.every - {known.newest})[0]


@pytest.mark.parametrize("age", ["older", "newer"])
def test_a_command_does_not_start_prefect_on_another_schema(project: Path, redistill: Command, tmp_path: Path, age: str) -> None:
    revision = NEWER if age == "newer" else earlier_of_prefect("sqlite")
    prefect_file(tmp_path / "home", revision)
    refused = redistill(project, "run", env={"PREFECT_API_URL": "", "PREFECT_HOME": str(tmp_path / "home")})
    line = refused.stderr.strip().splitlines()[-1]
    assert refused.code == 2 and f"was written by a{'n' * (age == 'older')} {age} Prefect (schema {revision})" in line
    assert age == "newer" or told(line)[1:] == ["prefect", "server", "database", "upgrade", "-y"]


@pytest.mark.parametrize("age", ["older", "newer"])
def test_up_does_not_start_a_server_on_another_schema(project: Path, redistill: Command, tmp_path: Path, age: str) -> None:
    (project / ".redistill/prefect").mkdir(parents=True)
    prefect_file(project / ".redistill/prefect", NEWER if age == "newer" else earlier_of_prefect("sqlite"))
    shutil.copytree(Path("tasks").resolve(), project / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    refused = redistill(project, "up", env={"PREFECT_API_URL": "", "PREFECT_HOME": ""})
    assert refused.code == 2 and f"{age} Prefect" in refused.stderr.strip().splitlines()[-1], refused.stderr
    assert not (project / ".redistill/services/addresses.json").exists()


@pytest.mark.long
def test_prefects_database_on_postgresql(
    team_services: TeamServices, fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older after Prefect's own downgrade, and current again after the command that the line names."""
    cluster = team_services.cluster
    cluster.create("schemas")
    address = cluster.address("schemas", driver="+asyncpg")
    monkeypatch.setenv(CONNECTION[0], address)

    def prefect(*arguments: str) -> None:
        env = {**child_environment(), "PREFECT_HOME": str(tmp_path)}
        import subprocess

        done = subprocess.run([sys.executable, "-m", "prefect", *arguments], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    check: Callable[[], None] = lambda: check_prefect_database(tmp_path)  # noqa: E731
    check()  # an empty database is made by the first server
    prefect("server", "database", "upgrade", "-y")
    check()
    prefect("server", "database", "downgrade", "-y", "-r", "-1")
    with pytest.raises(ConfigError, match=r"an older Prefect .* back it up with pg_dump") as older:
        check()
    assert "p%40ss" not in str(older.value) and "p@ss" not in str(older.value)
    prefect(*told(str(older.value))[1:])
    check()
    cluster.rows("schemas", "UPDATE alembic_version SET version_num = %s", (NEWER,))
    with pytest.raises(ConfigError, match="a newer Prefect"):
        check()
    for wrong in (
        cluster.address("schemas", driver="+asyncpg", password="secret-word"),
        cluster.address("no-such-database", driver="+asyncpg"),
        cluster.address("schemas", driver="+asyncpg", port=9),
    ):
        monkeypatch.setenv(CONNECTION[0], wrong)
        with pytest.raises(ConfigError, match="the database cannot be used") as refused:
            check()
        assert "secret-word" not in str(refused.value) and "\n" not in str(refused.value)
