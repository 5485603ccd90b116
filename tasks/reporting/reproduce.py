"""``redistill reproduce``: build a version again from its bundle, in a clean checkout, and compare row by row."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redistill.data.traffic.snapshots import check_snapshot
from redistill.distillation.student_base import base_of
from redistill.errors import DataError, RegistryError
from redistill.evaluation.types import Outcome
from redistill.io.digests import file_digest, tree_digest
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.params import Params, load_params
from redistill.provenance import dvc_lock, mlflow_names
from redistill.teacher import fingerprint
from redistill.teacher.completion_store import CompletionStore
from redistill.teacher.types import TeacherFingerprint
from tasks.locking.code_lock import LOCKS_CODE
from tasks.paths import CODE, LOCK, LOCKED_FROM, STATE
from tasks.registry import evidence_bundle
from tasks.registry.runs_and_versions import connect, resolved
from tasks.running.dvc_stage import dvc

_FROM_BUNDLE = ("params.yaml", "dvc.yaml", LOCK.name, "sources.lock.json")


def reproduce(params: Params, version_name: str, say: Callable[[str], None], *, keep: bool = False) -> dict[str, Any]:
    """Check out the commit of a version's cycle, put its params and locks there, run every stage that it was made from, and compare.

    Nothing comes from a cache, except what cannot be made again: the completions of a paid endpoint, and what earlier teachers said of slices that
    stayed with them.

    Raises:
        RegistryError: the version is not verified, or was not trained by this project.
        DataError: an input is missing or has changed.
        StageError: a stage failed.
    """
    client = connect(params)
    version = resolved(client, params, version_name)
    evidence = evidence_bundle.verified(client, params, version)
    if not (evidence / "report" / "report.json").is_file():
        raise RegistryError(f"version {version} was not trained by this project, so it cannot be built again")
    then = load_params(evidence / "params.yaml")
    arm = read_json(evidence / "judgement.json").get("arm", then.promote.arm)
    commit = read_json(evidence / "report" / "report.json")["lineage"]["git_commit"]
    stages = [s.name for s in dvc_lock.ancestors(dvc_lock.read(evidence / "dvc.lock"), f"benchmark@{arm}", LOCKED_FROM)]
    with _checkout(commit, STATE / "reproduce" / version, keep) as project:
        for name in _FROM_BUNDLE:
            shutil.copy(evidence / name, project / name)
        bring_inputs(then, read_json(evidence / "sources.lock.json"), project)
        dvc("init", "--no-scm", "-f", "-q", project=project)
        _lock_code(evidence, project, stages, say)
        current = read_json(project / LOCK)["current"]
        signed = TeacherFingerprint(current["name"], current["digest"], current["parts"])
        _bring_completions(then, read_json(project / LOCK), project)
        started = time.monotonic()
        for number, stage in enumerate(stages, 1):
            say(f"{number} of {len(stages)}: {stage} ({time.monotonic() - started:.0f} s so far)")
            dvc("repro", "--single-item", "--force", "--no-run-cache", stage, project=project)
            if (
                stage == "tune_teacher"
                and then.teacher.backend != "openai"
                and (rebuilt := _rebuilt_teacher(project, signed)) != signed.digest
            ):
                say(
                    f"the rebuilt teacher is {rebuilt[:16]}, not {signed.digest[:16]}: its training rounds differently on this machine, so the other results will differ too"
                )
        comparison = compared(evidence / "benchmark" / arm, project / "artifacts" / "benchmark" / arm)
        weights = client.get_model_version(params.data.name, version).tags[mlflow_names.TAG_MODEL_DIGEST]
        return {
            "version": version,
            "commit": commit,
            "stages": stages,
            "seconds": round(time.monotonic() - started, 1),
            "weights_identical": tree_digest(project / "artifacts" / "students" / arm) == weights,
            **comparison,
        }


def _rebuilt_teacher(project: Path, signed: TeacherFingerprint) -> str:
    return fingerprint.as_locked(fingerprint.fingerprint(project / "artifacts" / "teacher", signed.name), signed).digest


def _lock_code(evidence: Path, project: Path, stages: list[str], say: Callable[[str], None]) -> None:
    """Lock the checkout's code, and report stages whose code or packages are not those of the version."""
    if not (evidence / CODE).is_file():
        return  # the bundle is older than this lock
    dvc("repro", "--single-item", LOCKS_CODE, project=project)
    then, now = (read_json(folder / CODE)["stages"] for folder in (evidence, project))
    for stage in dict.fromkeys(name.partition("@")[0] for name in stages):
        if then.get(stage) != now.get(stage):
            say(
                f"stage {stage} had other code or packages in its cycle ({then.get(stage)}) than here ({now.get(stage)}), so its result may differ"
            )


def compared(signed: Path, rebuilt: Path) -> dict[str, Any]:
    """How many rows that people look at got the same response, and how many are right in only one of the two versions.

    Raises:
        DataError: the two were not benchmarked on the same rows.
    """
    before = {o.doc_hash: o for o in read_records(signed / "outcomes.parquet", Outcome)}
    after = {o.doc_hash: o for o in read_records(rebuilt / "outcomes.parquet", Outcome)}
    if before.keys() != after.keys():
        raise DataError(
            "the rebuilt version was benchmarked on different rows than the signed version; the sources are not those of its cycle: restore them, then try again"
        )
    return {
        "rows": len(before),
        "same_response": sum(before[key].response == after[key].response for key in before),
        "only_signed_right": sum(before[key].exact and not after[key].exact for key in before),
        "only_rebuilt_right": sum(after[key].exact and not before[key].exact for key in before),
    }


@contextmanager
def _checkout(commit: str, target: Path, keep: bool) -> Iterator[Path]:
    """The folder of this project in a clone of its repository at a commit."""
    top = subprocess.run(["git", "rev-parse", "--show-toplevel", "--show-prefix"], capture_output=True, text=True, check=False)
    has_commit = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False)
    if top.returncode or has_commit.returncode:
        raise RegistryError(f"commit {commit} is not in this git repository; the code of that commit is needed to build the version again")
    root, prefix = [*top.stdout.split("\n"), ""][:2]
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    for command in (["git", "clone", "-q", "--no-checkout", root, str(target)], ["git", "-C", str(target), "checkout", "-q", commit]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RegistryError(f"`{' '.join(command[:3])}` failed: {done.stderr.strip()[:300]}")
    try:
        yield (target / prefix).absolute()
    finally:
        if not keep:
            shutil.rmtree(target, ignore_errors=True)


def bring_inputs(then: Params, locked: dict[str, Any], project: Path) -> None:
    """Copy data and models that are not in git from this project, if they are still the same."""
    for source in (*locked["sources"], *locked.get("probes", ())):
        here, there = Path(source["path"]), project / source["path"]
        if "traffic" in source:
            _bring_snapshot(here, there)
            continue
        if here.is_absolute() or source.get("revision"):
            continue
        if not there.is_file() and here.is_file():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(here, there)
        if not there.is_file() or file_digest(there) != source["sha256"]:
            raise DataError(
                f"{here} is missing or is not the file of the version (sha256 {source['sha256'][:16]}…); restore that file, then try again"
            )
    for model in {then.teacher.model, base_of(then.student, then.teacher)[0]}:
        if Path(model).is_dir() and not Path(model).is_absolute() and not (project / model).exists():
            (project / model).parent.mkdir(parents=True, exist_ok=True)
            (project / model).symlink_to(Path(model).absolute())


def _bring_snapshot(here: Path, there: Path) -> None:
    if problem := check_snapshot(here).problem:
        raise DataError(f"{problem}; restore it from a backup, then try again")
    there.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".parquet", ".json"):
        shutil.copy(here.with_suffix(suffix), there.with_suffix(suffix))


def _bring_completions(then: Params, lock: dict[str, Any], project: Path) -> None:
    """Copy what only the store has. Weights that are here complete their rows again."""
    present, endpoint = lock["current"]["digest"], then.teacher.backend == "openai"
    if not (STATE / "store").is_dir() or not (endpoint or set(lock["answers_from"].values()) - {present}):
        return
    shutil.copytree(STATE / "store", project / STATE / "store")
    if not endpoint:
        store = CompletionStore(project / STATE / "store" / "completions.sqlite")
        try:
            store.forget(present)
        finally:
            store.close()
