"""What gc removes from a real registry, and what it never touches."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from redistill.errors import RegistryError, StageError
from redistill.io.json import write_json
from redistill.operations.params import RetentionParams
from redistill.operations.retention import Sweep
from redistill.provenance import mlflow_names
from redistill.teacher.completion_store import CompletionStore
from redistill.teacher.types import TeacherAnswer
from tasks.operations.gc.collect import collect_garbage
from tasks.operations.kept.versions import kept_versions
from tasks.promotion import approve
from tasks.registry import evidence_bundle, transitions
from tasks.running.cycle_lock import one_cycle
from tests.aged import age_file
from tests.integration.conftest import Registry
from tests.team.backing import FILES
from tests.unit.teacher.test_completion_store import keyed

ON_BOTH_BACKINGS = True
STRICT = RetentionParams(days=30, versions=0)


@pytest.fixture
def registry(make_registry: Callable[..., Registry]) -> Registry:
    """A model of its own, without what the other tests of this module left beside it."""
    for folder in ("evaluations", "bundles", "models", "store"):
        shutil.rmtree(f".redistill/{folder}", ignore_errors=True)
    return make_registry()


def swept(registry: Registry, *, dry_run: bool = False, retention: RetentionParams = STRICT) -> dict[str, Sweep]:
    """What was removed, by kind. What this process has loaded, and would remove at its end, is not counted."""
    sweeps = collect_garbage(replace(registry.params, retention=retention), dry_run=dry_run)
    return {sweep.kind: sweep for sweep in sweeps if sweep.removed and not sweep.kind.startswith("loaded ")}


def files_at(registry: Registry, uri: str) -> list[str]:
    """The files at an address of artifacts."""
    with registry.backing.editing(uri) as folder:
        return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]


def numbers(registry: Registry) -> list[str]:
    return sorted(str(v.version) for v in registry.client.search_model_versions(f"name = '{registry.params.data.name}'"))


def audit(registry: Registry) -> list[Any]:
    """History and looks, as they are stored."""
    name = registry.params.data.name
    entries = []
    for experiment in (mlflow_names.history_experiment(name), mlflow_names.looks_experiment(name)):
        found = registry.client.get_experiment_by_name(experiment)
        entries += [run.data.tags for run in registry.client.search_runs([found.experiment_id])] if found else []
    return sorted(entries, key=json.dumps)


def test_versions_beyond_the_retention_go_and_what_is_needed_stays(registry: Registry) -> None:
    import mlflow

    params, client, name = registry.params, registry.client, registry.params.data.name
    approve.promote(params, registry.version(122, seed=1), "first")
    approve.promote(params, registry.version(124, seed=2), "second")
    registry.version(123, seed=3)
    approve.reject(params, "3", "not polite")
    plain, copied, staged, base = (registry.version(60, seed=seed) for seed in (4, 5, 6, 7))
    client.copy_model_version(f"models:/{name}/{copied}", f"{name}-production")
    client.set_registered_model_alias(name, "staging", staged)
    last = registry.version(61, seed=8)
    registry.backing.age(Path(), 60)
    params = registry.params = replace(params, student=replace(params.student, model=f"models:/{name}/{base}"))
    Path("params.yaml").write_text(f"student: {{model: 'models:/{name}/{base}'}}\n", encoding="utf-8")
    before = audit(registry)
    kept = kept_versions(client, replace(params, retention=STRICT), 1e12).reasons
    assert kept == {
        "1": ("previous", "reference"),
        "2": ("champion", "the route"),
        "3": ("rejected or rolled back by a person",),
        copied: (f"model {name}-production version 1",),
        staged: ("staging",),
        base: ("params.yaml",),
        last: ("challenger",),
    }, "the route names the version that has traffic"
    weights = mlflow.get_logged_model(client.get_model_version(name, plain).source.removeprefix("models:/")).artifact_location
    assert "model/model.safetensors" in files_at(registry, weights)
    planned, done = swept(registry, dry_run=True), swept(registry)
    assert planned == done and {kind: done[kind].removed for kind in ("model versions", "registered weights", "runs")} == {
        "model versions": 1,
        "registered weights": 1,
        "runs": 1,
    }
    assert done["registered weights"].freed_bytes > 50_000 and not files_at(registry, weights)
    assert numbers(registry) == sorted(kept)
    assert swept(registry) == {}, "a second gc frees nothing"
    assert audit(registry) == before, "the audit trail is kept for ever"
    for version in kept:
        evidence_bundle.verified(client, params, version)
    mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}-production/1")
    assert approve.rollback(params, None, "complaints").champion == "1"


def test_age_and_number_keep_versions(registry: Registry) -> None:
    for seed in (1, 2, 3):
        registry.version(60, seed=seed)
    assert swept(registry) == {}, "all are young"
    registry.backing.age(Path(), 31)
    assert swept(registry, retention=RetentionParams(days=30, versions=3)) == {}
    assert swept(registry, retention=RetentionParams(days=32, versions=0)) == {}
    assert swept(registry, retention=RetentionParams(days=30, versions=2))["model versions"].removed == 1
    assert numbers(registry) == ["2", "3"]


def test_files_that_are_missing_already_stop_nothing(registry: Registry) -> None:
    for seed in (1, 2, 3):
        registry.version(60, seed=seed)
    registry.backing.age(Path(), 60)
    runs = [registry.client.get_run(registry.client.get_model_version(registry.params.data.name, v).run_id).info for v in ("1", "2")]
    with registry.backing.editing(runs[0].artifact_uri) as folder:
        shutil.rmtree(folder)
    registry.client.delete_run(runs[1].run_id)  # by a person, in MLflow's page
    done = swept(registry)
    # What a person deleted on a server is left to `mlflow gc` there.
    on_files = registry.backing.name == FILES
    assert (done["runs"].removed, done["registered weights"].removed) == (2 if on_files else 1, 2)
    assert not any(files_at(registry, run.artifact_uri) for run in (runs if on_files else runs[:1]))


def test_a_bundle_that_must_stay_and_cannot_be_read_stops_gc(registry: Registry) -> None:
    """What the champion needs is unknown then."""
    approve.promote(registry.params, registry.version(122, seed=1), "first")
    registry.version(60, seed=2)
    registry.version(60, seed=3)
    registry.backing.age(Path(), 60)
    with registry.files_of_run("1") as run:
        shutil.rmtree(run / "evidence")
    with pytest.raises(RegistryError, match=r"the bundle of version 1 cannot be read .*nothing was removed"):
        swept(registry)
    assert numbers(registry) == ["1", "2", "3"]


def test_both_sides_of_an_interrupted_promotion_stay(registry: Registry) -> None:
    params = registry.params
    approve.promote(params, registry.version(122, seed=1), "first")
    two = registry.version(60, seed=2)
    registry.version(60, seed=3)
    before = transitions.live(registry.client, params)
    after = replace(before, champion=two, previous="1")
    plan = {"id": "x", "host": transitions._here(), "at": "2026-01-01T00:00:00+00:00", "before": asdict(before), "after": asdict(after)}
    registry.client.set_registered_model_tag(params.data.name, mlflow_names.TAG_MOVE, json.dumps(plan))
    registry.backing.age(Path(), 60)
    kept = kept_versions(registry.client, replace(params, retention=STRICT), 1e12).reasons
    assert kept[two] == ("a promotion that was interrupted",) and "champion" in kept["1"]
    # gc itself first undoes it, as every command does.
    assert swept(registry)["model versions"].removed == 1 and numbers(registry) == ["1", "3"]


def test_gc_never_runs_beside_a_cycle(registry: Registry) -> None:
    with one_cycle(print), pytest.raises(StageError, match=rf"a cycle \(process {os.getpid()}\) is running in this project"):
        swept(registry)


def by(teacher: str, key: str, answer: TeacherAnswer) -> tuple[str, TeacherAnswer]:
    return key, replace(answer, request=replace(answer.request, teacher=teacher))


def test_completions_stay_while_a_lock_or_a_kept_version_names_their_teacher(registry: Registry) -> None:
    approve.promote(registry.params, registry.version(122, seed=1), "its tag names its teacher")
    write_json("teacher.lock.json", {"current": {"digest": "now"}, "answers_from": {"default": "now", "branch": "special"}})
    store = CompletionStore(".redistill/store/completions.sqlite")
    teachers = ("now", "special", "teacher", "gone", "young")
    for teacher in teachers:
        store.put([by(teacher, *keyed(f"{teacher}-{i}", os.urandom(2000).hex())) for i in range(50)])
    store.put([keyed("unnamed", "by an older redistill")])
    store.close()
    registry.backing.age(Path(), 60)
    store = CompletionStore(".redistill/store/completions.sqlite")
    store._db.execute("UPDATE origins SET stored_s = stored_s + 60 * 86400 WHERE teacher = 'young'")
    store._db.commit()
    store.close()
    planned, done = swept(registry, dry_run=True), swept(registry)
    assert planned["completions"].removed == done["completions"].removed == 50
    assert done["completions"].freed_bytes > 100_000
    store = CompletionStore(".redistill/store/completions.sqlite")
    left = {key.rpartition("-")[0] for (key,) in store._db.execute("SELECT key FROM answers")}
    assert left == {"now", "special", "teacher", "young", ""}
    store.name_teachers([("unnamed", "gone")])
    store.close()
    assert swept(registry) == {}, "from now on its teacher is known, and it is young"


def test_work_of_the_state_folder_goes_by_age(registry: Registry) -> None:
    approve.promote(registry.params, registry.version(122, seed=1), "first")
    registry.backing.age(Path(), 60)
    state = Path(".redistill")
    old = ["work/finetune-kd-dead/checkpoint-1/a", "work/generate-dead/b", "timings/x.json", "tune/y.journal", "reproduce/7/params.yaml"]
    old += [
        "bundles/99-run/evidence/params.yaml",
        f"models/{registry.params.data.name}-99/model",
        "tmpabcdef/weights/model",
        "logs/night.log",
    ]
    for name in [*old, "work/finetune-kd-alive/checkpoint-2/a"]:
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text("x" * 5000, encoding="utf-8")
    for name in old:
        age_file(state / name, 60)
    planned, done = swept(registry, dry_run=True), swept(registry)
    assert planned == done and not any((state / name).exists() for name in old)
    assert (state / "work/finetune-kd-alive/checkpoint-2/a").is_file()
    assert sum(s.removed for s in done.values()) == len(old) - 2, "of each kind, besides loaded bundles and models"
    assert all(s.freed_bytes >= 8192 * s.removed for s in done.values())
    assert swept(registry) == {} and not (state / "trash").exists()
