"""Where a project's runs, versions and their files are: in its own folder, or on a team's MLflow server with PostgreSQL and S3.

A module of tests with ``ON_BOTH_BACKINGS = True`` runs on both; the team's half is marked ``long``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.aged import MS, age_files, age_mlflow
from tests.team.object_store import ObjectStore
from tests.team.postgres import Cluster

FILES, TEAM = "files", "team"


@dataclass(frozen=True)
class TeamServices:
    """What the tests of one process share. ``url`` is MLflow's address."""

    cluster: Cluster
    store: ObjectStore
    url: str
    database: str


@dataclass(frozen=True)
class Backing:
    """``environment`` is what a command needs to use it; nothing if the project keeps everything itself."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    services: TeamServices | None = None

    @contextmanager
    def editing(self, uri: str) -> Iterator[Path]:
        """The files at an address of artifacts as a folder; what is changed there is changed behind MLflow's back."""
        parts = urlsplit(uri)
        if parts.scheme in ("", "file"):
            yield Path(unquote(parts.path))
            return
        assert self.services is not None and parts.scheme == "s3", uri
        with self.services.store.editing(parts.netloc, parts.path) as folder:
            yield folder

    def age(self, project: Path, days: float) -> None:
        """Everything in the project's own folders, and in its registry, happened ``days`` earlier."""
        age_files(project, days)
        if self.services is None:
            age_mlflow(project / ".redistill/mlflow/mlflow.db", days)
            return
        for statement in MS:
            self.services.cluster.rows(self.services.database, statement.format(days * 86_400_000))
