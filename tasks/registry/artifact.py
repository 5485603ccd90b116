"""The files of a registered version, as the registry has them now: what others load, and so what is signed and verified.

That is the checkpoint, and everything beside it: MLflow's own description, a copy of the tokenizer, the lists of packages.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from redistill.errors import DataError, RegistryError
from redistill.io.digests import tree_digest
from redistill.models.loading import require_inside
from redistill.params import Params
from redistill.provenance import mlflow_names
from tasks.paths import ARTIFACTS, STATE
from tasks.registry.client import RegistryClient
from tasks.registry.loading import loading

_META = "registered_model_meta"
"""MLflow writes this file beside every download of a version: it is no part of the version."""


_FOLDERS: set[Path] = set()
"""Private folders of this process, which are removed when it ends."""
_SCOPE: ContextVar[list[Path] | None] = ContextVar("scope of private folders", default=None)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A downloaded version: ``root`` has all of its files, ``weights`` is the checkpoint among them."""

    root: Path
    weights: Path


def downloaded(client: RegistryClient, params: Params, version: str) -> Artifact:
    """A version's files as the registry has them now, not a local copy, because others will load what the registry has.

    Raises:
        RegistryError: they cannot be loaded, lead out of their folder, have more than one checkpoint, or another digest than the registered one.
        RegistryUnavailable: the place where they are kept does not answer, or refuses us.
    """
    import mlflow

    registered = client.get_model_version(params.data.name, version)
    digest = registered.tags.get(mlflow_names.TAG_MODEL_DIGEST)
    root = private_folder("models", f"{params.data.name}-{version}")
    uri = f"models:/{params.data.name}/{version}"
    with loading("its weights", uri):
        if (store := _local_store(registered.source)) is not None:
            _refuse_links(store)
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(root))
    _refuse_links(root)
    (root / _META).unlink(missing_ok=True)
    folders = sorted(p.parent for p in root.rglob("config.json"))
    if len(folders) != 1:
        raise RegistryError(f"it has {len(folders)} checkpoints, but must have exactly one")
    try:
        require_inside(folders[0])
    except DataError as error:
        raise RegistryError(f"its weights lead out of their folder: {error}") from None
    if digest is not None and tree_digest(folders[0]) != digest:
        raise RegistryError(f"its weights do not have the registered digest {digest[:12]}; they were changed after the registration")
    return Artifact(root, folders[0])


def weights_of(client: RegistryClient, params: Params, version: str) -> Path:
    """A version's checkpoint to measure: the arm on disk if it is the same, else from the registry.

    Raises:
        RegistryError: as ``downloaded``.
    """
    digest = client.get_model_version(params.data.name, version).tags.get(mlflow_names.TAG_MODEL_DIGEST)
    here = ARTIFACTS / "students" / params.promote.arm
    if digest and here.is_dir() and tree_digest(here) == digest:
        return here
    return downloaded(client, params, version).weights


def private_folder(kind: str, name: str) -> Path:
    """A new folder that only this process uses, removed when it ends.

    In a shared folder one reader would remove what another one is about to verify, and a sound champion would fail its re-test.
    """
    parent = STATE / kind
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent)).absolute()
    _FOLDERS.add(folder)
    if (scope := _SCOPE.get()) is not None:
        scope.append(folder)
    return folder


@contextmanager
def short_lived() -> Iterator[None]:
    """Removes the private folders that are made inside at its end. For a process that runs for weeks, and tries a version again that does not verify."""
    folders = list[Path]()
    token = _SCOPE.set(folders)
    try:
        yield
    finally:
        _SCOPE.reset(token)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            _FOLDERS.discard(folder)


@atexit.register
def _remove_folders() -> None:
    for folder in _FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)


def _local_store(source: str | None) -> Path | None:
    """The folder in which MLflow keeps the version, if that is on this machine."""
    import mlflow

    if source and source.startswith("models:/m-"):
        source = mlflow.get_logged_model(source.removeprefix("models:/")).artifact_location
    address = urlsplit(source or "")
    return Path(unquote(address.path)) if address.scheme in ("file", "") and address.path.startswith("/") else None


def _refuse_links(folder: Path) -> None:
    """A link shows the file that it leads to now. After the signature, it may lead to another one."""
    links = [file for file in folder.rglob("*") if file.is_symlink()]
    if links:
        raise RegistryError(
            f"it has a symbolic link ({links[0].relative_to(folder)}), whose target can change after the signature; register the files themselves"
        )
