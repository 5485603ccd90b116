"""Where people find what a cycle made: pages of MLflow and Prefect, and files. A registry in a file has no pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from redistill.operations.workspace import Workspace
from redistill.params import Params
from redistill.provenance import mlflow_names
from tasks.paths import ARTIFACTS, STATE
from tasks.registry.runs_and_versions import connect
from tasks.reporting import publishing
from tasks.reporting.report import REPORT
from tasks.reporting.trends import TRENDS

DATA_DOCS = ARTIFACTS / "data_docs"


@dataclass(frozen=True, slots=True)
class Link:
    """A title with its address, or with the file where it has no address."""

    title: str
    address: str | None = None
    file: Path | None = None

    @property
    def markdown(self) -> str:
        return f"[{self.title}]({self.address})" if self.address else f"{self.title}: `{self.file}`"


def of_cycle(params: Params, workspace: Workspace, run_id: str, version: str | None, flow_run_id: str) -> list[Link]:
    """The cycle's own pages, those of its version, and the files it wrote; only what is there."""
    links = [
        Link("this run in Prefect", publishing.flow_run_page(flow_run_id)),
        Link("this cycle in MLflow", pages_of_runs(params)(run_id)),
        Link(f"version {version} in MLflow", mlflow_version(params, version) if version else None),
        Link("decide about a version", publishing.form_of(f"promote-student/{workspace.deployment('')}")),
        Link("report", None, _file(REPORT / "index.html")),
        Link("trends", None, _file(TRENDS / "index.html")),
        Link("Data Docs", None, next(iter(sorted(DATA_DOCS.rglob("local_site/index.html"))), None)),
    ]
    return [link for link in links if link.address or link.file]


def pages_of_runs(params: Params) -> Callable[[str], str | None]:
    """From the id of a cycle's run to its page."""
    server = _server()
    if server is None:
        return lambda _: None
    experiment = connect(params).get_experiment_by_name(mlflow_names.experiment(params.data.name))
    return lambda run_id: f"{server}/#/experiments/{experiment.experiment_id}/runs/{run_id}"


def mlflow_version(params: Params, version: str) -> str | None:
    """The page of a registered version."""
    server = _server()
    return None if server is None else f"{server}/#/models/{quote(params.data.name)}/versions/{version}"


def _server() -> str | None:
    address = mlflow_names.tracking_uri(STATE)
    if not address.startswith(("http://", "https://")):
        return None
    parts = urlsplit(address)  # a password in the address must not be published
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None
