"""``redistill gc`` and sealed results: those of a version that stays are kept, since a new measurement could be a new look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from redistill.io.json import write_json
from redistill.operations.params import RetentionParams
from redistill.provenance import mlflow_names
from tasks.operations.gc.collect import collect_garbage
from tasks.promotion import approve
from tests.integration.conftest import Registry

ON_BOTH_BACKINGS = True


def test_sealed_results_of_a_live_version_are_kept(make_registry: Callable[..., Registry]) -> None:
    registry = make_registry()
    version = registry.version(122, seed=1)
    approve.promote(registry.params, version, "passed")
    tags = registry.client.get_model_version(registry.params.data.name, version).tags
    kept, gone = (Path(".redistill/evaluations") / name for name in ("sealed-live", "sealed-old"))
    for folder, digest in ((kept, tags[mlflow_names.TAG_MODEL_DIGEST]), (gone, "0" * 64)):
        write_json(folder / "summary.json", {"model_digest": digest})
        (folder / "results.sealed").write_bytes(b"sealed")
    registry.backing.age(Path(), 60)
    collect_garbage(replace(registry.params, retention=RetentionParams(days=30, versions=0)), dry_run=False)
    assert kept.is_dir() and not gone.exists()
