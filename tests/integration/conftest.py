"""A project with a real registry: versions with real weights and evidence, registered and signed in seconds, no cycle needed."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cycles import with_registry
from tests.integration.endpoints import serve, teach, teachers  # noqa: F401 - fixtures
from tests.team.backing import FILES, Backing
from tests.tiny_project import params

N = 200
_NAMES = itertools.count()


@dataclass
class Registry:
    """One registered model of its own, in a project that tests of a module share."""

    params: Any
    client: Any
    weights: Callable[[int, int], Path]
    rows: tuple[str, ...] = ()
    """Prompt ids; those of no other registry if they are left out."""
    label: str = "x"
    backing: Backing = field(default_factory=lambda: Backing(FILES))

    @contextmanager
    def files_of_version(self, version: str) -> Iterator[Path]:
        """The registered files of a version, to be changed behind MLflow's back."""
        import mlflow

        source = self.client.get_model_version(self.params.data.name, version).source
        with self.backing.editing(mlflow.get_logged_model(source.removeprefix("models:/")).artifact_location) as folder:
            yield folder

    @contextmanager
    def files_of_run(self, version: str) -> Iterator[Path]:
        """The files of the run that trained a version, its evidence among them, to be changed behind MLflow's back."""
        from redistill.provenance import mlflow_names

        run_id = self.client.get_model_version(self.params.data.name, version).tags[mlflow_names.TAG_MLFLOW_RUN]
        with self.backing.editing(self.client.get_run(run_id).info.artifact_uri) as folder:
            yield folder

    def version(
        self, right: int, seed: int, *, cycle: str = "cycle", started_by: str = "nightly", hidden: int = 32, threshold: float | None = None
    ) -> str:
        """Register, judge and sign a student with ``right`` of 200 rows right, as a cycle does at its end; teacher: 120.

        With a ``threshold`` it has a cascade: its score falls evenly from 1 on the first row to 0 behind the last, so it answers the first rows.
        """
        from redistill.data.types import Prompt
        from redistill.distillation.types import TrainingRow
        from redistill.evaluation.summary import report_to_json
        from redistill.evaluation.timing import architecture
        from redistill.evaluation.types import Confidence, Cost, EvalReport, Outcome
        from redistill.io.digests import file_digest
        from redistill.io.json import write_json
        from redistill.io.parquet import write_records
        from redistill.provenance import mlflow_names
        from redistill.statistics.shares import share
        from redistill.teacher.types import TeacherFingerprint
        from tasks.promotion.judge import judge_arm
        from tasks.promotion.judgement import summary
        from tasks.registry import evidence_bundle, runs_and_versions, transitions
        from tasks.results import memos
        from tasks.results.rows import HELDOUT, shown_rows

        ids = self.rows or tuple(f"{self.params.data.name}-{i}" for i in range(N))
        shutil.rmtree("artifacts/students/kd", ignore_errors=True)
        shutil.copytree(self.weights(seed, hidden), "artifacts/students/kd")
        prompts = Path("artifacts/prompts")
        if not HELDOUT.is_file():
            for split in ("train", "pool", "heldout"):
                write_records(prompts / f"{split}.parquet", Prompt, [])
            write_records(Path("artifacts/validated/kept.parquet"), TrainingRow, [])
        for who, hits, size in (("kd", right, 10), ("teacher", 120, 20)):
            outcomes = [
                Outcome(
                    ids[i],
                    f"doc{i}",
                    f"p{i}",
                    "app",
                    self.label,
                    self.label if i < hits else "y",
                    i < hits,
                    int(i < hits),
                    int(i >= hits),
                    int(i >= hits),
                    confidences=() if threshold is None or who == "teacher" else (Confidence("s", 1 - i / N),),
                )
                for i in range(N)
            ]
            score = share(hits, N)
            cost = Cost(size, size, size)
            digest = runs_and_versions.tree_digest("artifacts/students/kd") if who == "kd" else "teacher"
            built = architecture(Path("artifacts/students/kd")) if who == "kd" else ""
            report = EvalReport(who, digest, file_digest(HELDOUT), "template", N, score, score, {}, {}, cost, 0, "hf", architecture=built)
            write_json(Path(f"artifacts/benchmark/{who}/report.json"), report_to_json(report))
            write_records(Path(f"artifacts/benchmark/{who}/outcomes.parquet"), Outcome, outcomes)
            if who == "kd":  # a real benchmark remembers what it measured
                memo = shown_rows(self.params.data).memo(digest, self.params.data, self.params.benchmark)
                shutil.copytree(Path("artifacts/benchmark/kd"), memo, dirs_exist_ok=True)
                memos.remember(memo)
        self._timed()
        self._calibrated(threshold)
        Path("dvc.lock").touch()
        experiment = self.client.get_experiment_by_name(mlflow_names.experiment(self.params.data.name))
        run_id = self.client.create_run(experiment.experiment_id, tags={mlflow_names.TAG_STARTED_BY: started_by}).info.run_id
        version = runs_and_versions.register(self.params, run_id, cycle, TeacherFingerprint("t", "teacher", {}))
        judgement = judge_arm(self.client, self.params, transitions.history(self.client, self.params))
        told = summary(judgement)
        write_json(Path("artifacts/report/report.json"), {"decision": told["decision"]})
        if not evidence_bundle.is_current(self.params, version, told):
            evidence_bundle.attach(self.params, run_id, version, told, None)
        self.client.set_terminated(run_id, "FINISHED")
        return str(version)

    def _calibrated(self, threshold: float | None) -> None:
        """The arm's calibration as the stage leaves it."""
        from redistill.io.json import write_json
        from redistill.promotion.cascade import Cascade
        from redistill.promotion.thresholds.saved import calibration_to_json
        from redistill.promotion.thresholds.types import CascadeCalibration
        from tasks.registry.runs_and_versions import tree_digest

        shutil.rmtree("artifacts/calibration", ignore_errors=True)
        if threshold is not None:
            digest = tree_digest("artifacts/students/kd")
            cascade = Cascade("s", threshold, 0.0, digest, ())
            found = CascadeCalibration("kd", digest, "template", 200, 0, 0.1, 0.1, 0.9, None, None, (), cascade, "s: chosen by a test")
            write_json(Path("artifacts/calibration/kd/calibration.json"), calibration_to_json(found))

    def _timed(self) -> None:
        """The architecture of the student beside that of a teacher, as the stage leaves it."""
        from redistill.evaluation.timing import Times, Timing, architecture, timing_to_json
        from redistill.io.json import write_json
        from tasks.paths import LOCK
        from tasks.stages.timing import TIMING

        write_json(LOCK, {"source": {"backend": "openai"}, "current": {"digest": "teacher"}})
        student = Times(architecture(Path("artifacts/students/kd")), 9, (0.01,) * 8, (0.1,) * 9)
        write_json(TIMING, timing_to_json(Timing("hf", student, Times("teacher", None, (0.02,) * 8))))


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """A two-layer student by seed and width, made once; never write into it."""
    from tests.tiny import make_tiny_model

    @functools.cache
    def made(seed: int, hidden: int) -> Path:
        return make_tiny_model(tmp_path_factory.mktemp("weights") / "kd", layers=2, seed=seed, hidden=hidden)

    return made


@pytest.fixture(scope="module")
def registry_home(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path, backing: Backing) -> Path:
    home = tmp_path_factory.mktemp("registry")
    return with_registry(home, empty_registry) if backing.name == FILES else home


@pytest.fixture
def make_registry(
    registry_home: Path, tiny_weights: Callable[[int, int], Path], monkeypatch: pytest.MonkeyPatch, backing: Backing
) -> Callable[..., Registry]:
    """Makes a registered model of its own; ``promote`` changes that section of the params."""
    import yaml

    from redistill.params import load_params
    from redistill.runtime import environment
    from tasks.locking.code_lock import lock_code
    from tasks.paths import CODE
    from tasks.registry import runs_and_versions

    for name in [v for v in os.environ if v.startswith(("MLFLOW_", "REDISTILL_", "AWS_"))]:
        monkeypatch.delenv(name)
    environment.silence()
    for name, value in backing.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(registry_home)
    if not CODE.is_file():
        lock_code()

    def make(**promote: Any) -> Registry:
        tree = params("0" * 64)
        del tree["benchmark"]["fairness"]
        tree["data"]["name"] = f"model-{next(_NAMES)}"
        tree["promote"] = {"arm": "kd", "gates": ["audit", "teacher", "champion", "reference", "smaller", "faster"], **promote}
        Path("params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        (registry_home / "artifacts/route/flags.json").unlink(missing_ok=True)
        found = load_params()
        return Registry(found, runs_and_versions.connect(found), tiny_weights, backing=backing)

    return make
