"""Which versions a prompt trained: by the files that the signed lock of each version names, as they are here or as they were noted before they went."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from redistill.data.forgotten import tombstone_digest
from redistill.errors import RedistillError
from redistill.io.json import read_json
from redistill.operations import traces as tracing
from redistill.operations.traces import Traces
from redistill.params import Params, load_params
from redistill.provenance import dvc_lock
from tasks.operations.forgetting.files import ids_file
from tasks.registry import evidence_bundle
from tasks.registry.client import RegistryClient
from tasks.running.dvc_objects import object_file
from tasks.running.dvc_stage import cache_folder

_ROWS = ("artifacts/prompts/train.parquet", "artifacts/validated")


@dataclass(frozen=True, slots=True)
class Trained:
    """``versions`` were trained with the prompt. Of ``unknown`` ones nobody can say it: their rows are not here, or their bundle cannot be read."""

    versions: tuple[str, ...]
    unknown: tuple[str, ...]


def trained(client: RegistryClient | None, params: Params, traces: Traces) -> Trained:
    """Look through all registered versions."""
    states: dict[str, bool | None] = {}
    digests = frozenset(map(tombstone_digest, traces.ids))
    if client is None:
        return Trained((), ())
    for entity in client.search_model_versions(f"name = '{params.data.name}'"):
        version = str(entity.version)
        try:
            states[version] = _by(evidence_bundle.verified(client, params, version), digests)
        except (RedistillError, StopIteration, KeyError):
            states[version] = None
    ordered = sorted(states, key=int)
    return Trained(tuple(v for v in ordered if states[v]), tuple(v for v in ordered if states[v] is None))


def _by(evidence: Path, digests: frozenset[str]) -> bool | None:
    """Whether the rows of a bundle's student are among these; None if its rows are not known. A version from elsewhere has no rows of this project."""
    if not (evidence / "report" / "report.json").is_file():
        return False
    arm = read_json(evidence / "judgement.json").get("arm", load_params(evidence / "params.yaml").promote.arm)
    deps = dvc_lock.read(evidence / "dvc.lock")[f"finetune@{arm}"].deps
    known = [_ids(dep) for dep in deps if dep.path.startswith(_ROWS)]
    if any(ids is not None and ids & digests for ids in known):
        return True
    return None if None in known or not known else False


def _ids(tracked: dvc_lock.Tracked) -> frozenset[str] | None:
    """Digests of the ids in a file or folder as DVC had it; None if it is neither here nor noted."""
    cache = cache_folder()
    here = Path(tracked.path)
    if dvc_lock.md5_of(here) == tracked.md5:
        return frozenset(
            tombstone_digest(i) for file in ([here] if here.is_file() else sorted(here.rglob("*.parquet"))) for i in tracing.ids_in(file)
        )
    if not tracked.md5.endswith(".dir"):
        return _ids_of(cache, tracked.md5)
    listed = _list_of(cache, tracked.md5)
    if listed is None:
        return None
    parts = [_ids_of(cache, str(entry["md5"])) for entry in listed if str(entry["relpath"]).endswith(".parquet")]
    return None if None in parts else frozenset().union(*(part for part in parts if part is not None))


def _ids_of(cache: Path, md5: str) -> frozenset[str] | None:
    if (noted := ids_file(md5)).is_file():
        return frozenset(json.loads(noted.read_text(encoding="utf-8")))
    file = object_file(cache, md5)
    return frozenset(map(tombstone_digest, tracing.ids_in(file))) if file.is_file() else None


def _list_of(cache: Path, md5: str) -> list[dict[str, str]] | None:
    """The files of a folder: from DVC's list, or as it was noted before the list went."""
    for file in (object_file(cache, md5), ids_file(md5)):
        if file.is_file():
            return list(json.loads(file.read_bytes()))
    return None
