"""Takes snapshots of traffic, each time the sources are locked: so the log may grow while a cycle runs, and DVC sees what the cycle took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redistill.data import sources
from redistill.data.forgotten import forgotten_digests
from redistill.data.params import TrafficSourceParams
from redistill.data.traffic.shards import read_traffic
from redistill.data.traffic.snapshots import snapshot_prompts, write_snapshot
from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.params import Params
from tasks.locking.licence_check import licences_of
from tasks.paths import FORGOTTEN, SNAPSHOTS, TRAFFIC

ROUTER = "router"


def take_snapshots(params: Params) -> list[dict[str, Any]]:
    """A snapshot of each source of traffic, as the lock of the sources lists it. The same rows are the same entry.

    Raises:
        DataError: a folder or a shard cannot be read, or no row of a source may be used.
        ConfigError: the licence reviews do not hold.
    """
    if not params.data.traffic:
        return []
    known = [prompt for rows in sources.load(params.data, Path()).values() for prompt in rows]
    entries = []
    for source in params.data.traffic:
        file = _taken(source, known, params)
        # What one source gives is known to the next.
        known += snapshot_prompts(file, source.path)
        entries.append({"path": file.as_posix(), "revision": None, "sha256": file.stem, "traffic": source.path})
    return entries


def _taken(source: TrafficSourceParams, known: list[Prompt], params: Params) -> Path:
    # It needs scikit-learn; most projects have no traffic.
    from redistill.validation.traffic.choose import Rules, choose, lines, require_consent

    rules = Rules(
        params.data, params.intake, licences_of(params.governance, params.teacher, params.data, source.path), forgotten_digests(FORGOTTEN)
    )
    chosen = choose(read_traffic(folder_of(source)), source, known, rules)
    require_consent(chosen, source)
    groups = ", ".join(f"{name} {count:,}" for name, count in chosen.groups.items())
    for line in (f"{len(chosen.rows):,} of {chosen.read:,} logged rows taken{f': {groups}' if groups else ''}", *lines(chosen, source)):
        print(f"[lock] {source.path}: {line}", flush=True)
    return write_snapshot(SNAPSHOTS, chosen.rows)


def folder_of(source: TrafficSourceParams) -> Path:
    """Where the shards of a source are. What the router logs may be missing, because traffic comes later.

    Raises:
        DataError: a folder that params name is missing.
    """
    if source.traffic == ROUTER:
        return TRAFFIC
    folder = Path(source.traffic)
    if not folder.is_dir():
        raise DataError(
            f"data.source: the folder {folder} of {source.path} is {'no folder' if folder.exists() else 'missing'}; "
            "import traces into it with `redistill traffic import`, or correct traffic in params.yaml"
        )
    return folder
