"""One rule says which model at which revision a student is made from: what is locked, checked, cut and told is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.distillation.student_base import base_of
from redistill.io.json import read_json
from redistill.models.checkpoints import load_model
from redistill.models.params import StudentParams
from redistill.models.weights_source import resolve, source_digest
from redistill.params import load_params
from redistill.teacher.params import TeacherParams
from tasks.locking.teacher_lock import lock_sources
from tasks.paths import SOURCES
from tasks.stages.init_student import init_student
from tasks.training.student_base import write_base
from tests.tiny import make_tiny_model
from tests.tiny_project import make_tiny_project

HUB, MAIN, PINNED = "owner/tiny", "a" * 40, "b" * 40


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose teacher is a hub model at a pinned revision; the hub's cache holds that and a newer ``main`` of other depth."""
    import huggingface_hub.constants

    hub = tmp_path / "hub"
    folder = hub / "models--owner--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(MAIN, encoding="utf-8")
    make_tiny_model(folder / "snapshots" / MAIN, layers=2)
    make_tiny_model(folder / "snapshots" / PINNED, layers=3)
    # Where huggingface_hub looks is read from the environment when it is imported.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    make_tiny_project(tmp_path / "project", teacher__model=HUB, teacher__revision=PINNED, student__init="copy")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_what_is_locked_is_what_is_trained(project: Path) -> None:
    params = load_params()
    assert resolve(HUB) != resolve(HUB, PINNED), "the fixture holds two revisions"
    lock_sources(params)
    models = read_json(SOURCES)["models"]
    assert models["student"] == models["teacher"] == {"digest": source_digest(HUB, PINNED)} != {"digest": source_digest(HUB)}
    init_student(params.student, params.teacher)
    assert load_model("artifacts/base").config.num_hidden_layers == 3
    write_base(params.student, params.teacher, project / "trial")
    assert load_model("trial").config.num_hidden_layers == 3


@pytest.mark.parametrize(
    ("model", "backend", "expected"),
    [
        ("teacher", "vllm", (HUB, PINNED)),
        (HUB, "vllm", (HUB, PINNED)),
        ("owner/other", "vllm", ("owner/other", None)),
        # An endpoint's revision is what it declares, not a commit of a hub.
        (HUB, "openai", (HUB, None)),
    ],
)
def test_the_revision_goes_with_the_model(model: str, backend: str, expected: tuple[str, str | None]) -> None:
    teacher = TeacherParams(model=HUB, revision=PINNED, backend=backend)  # type: ignore[arg-type]
    assert base_of(StudentParams(model=model, init="copy"), teacher) == expected
