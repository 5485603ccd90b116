"""No reviewed, unexpired, allowed terms, no generation; the review is bound to the very text that was read."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redistill.errors import ConfigError
from redistill.io.digests import file_digest
from redistill.params import load_params
from redistill.validation.licences import COVERED, Used, review
from redistill.validation.params import GovernanceParams, LicenceReview

TODAY = dt.date(2026, 11, 22)
DAY = dt.timedelta(days=1)
ROOT = Path(__file__).parents[3]
USED = Used("owner/teacher", None, "vllm", ("a.jsonl", "b.jsonl"))


@pytest.fixture
def reviews(tmp_path: Path) -> dict[str, LicenceReview]:
    """One fitting review for each kind, with its text beside it."""
    made = {}
    for kind in COVERED:
        (tmp_path / "terms").mkdir(exist_ok=True)
        (tmp_path / "terms" / f"{kind}.md").write_text(f"What may be done with the {kind}.\n", encoding="utf-8")
        made[kind] = LicenceReview(
            name=f"the {kind}",
            covers=kind,  # type: ignore[arg-type]
            licence="Apache-2.0",
            terms=f"terms/{kind}.md",
            terms_sha256=file_digest(tmp_path / "terms" / f"{kind}.md"),
            reviewer="A. Reader",
            reviewed=TODAY - 30 * DAY,
            expires=TODAY + 30 * DAY,
            allowed=True,
            **({"sources": ("a.jsonl", "b.jsonl")} if kind == "data" else {"model": "owner/teacher", "backend": "vllm"}),  # type: ignore[arg-type]
        )
    return made


def problems(reviews: dict[str, LicenceReview], root: Path, used: Used = USED) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        review(GovernanceParams(licenses=tuple(reviews.values())), used, TODAY, root)
    start = "licence review stops the cycle before any teacher call: "
    assert str(caught.value).startswith(start) and "\n" not in str(caught.value)
    return str(caught.value).removeprefix(start).split(" | ")


def test_what_was_reviewed_is_handed_to_the_lock(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    told = review(GovernanceParams(licenses=tuple(reviews.values())), USED, TODAY, tmp_path)
    assert [x["covers"] for x in told] == list(COVERED)
    assert told[0] == {
        "name": "the teacher",
        "covers": "teacher",
        "licence": "Apache-2.0",
        "terms_sha256": reviews["teacher"].terms_sha256,
        "reviewer": "A. Reader",
        "reviewed": "2026-10-23",
        "expires": "2026-12-22",
        "of": {"model": "owner/teacher", "revision": None, "backend": "vllm"},
    }


def test_the_first_and_the_last_day_count(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    edges = {k: replace(x, reviewed=TODAY, expires=TODAY) for k, x in reviews.items()}
    assert len(review(GovernanceParams(licenses=tuple(edges.values())), USED, TODAY, tmp_path)) == 3


@pytest.mark.parametrize("kind", COVERED)
def test_what_nobody_reviewed_is_not_covered(reviews: dict[str, LicenceReview], tmp_path: Path, kind: str) -> None:
    del reviews[kind]
    assert problems(reviews, tmp_path) == [f"no entry in governance.licenses covers the {kind}; add one"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expires": TODAY - DAY}, "the review expired on 2026-11-21 (UTC); read the terms again and set reviewed and expires"),
        ({"reviewed": TODAY + DAY}, "reviewed on 2026-11-23, which is in the future (UTC)"),
        ({"allowed": False}, "not allowed (licence Apache-2.0, reviewer A. Reader)"),
        ({"terms": "terms/gone.md"}, "its terms terms/gone.md are missing; put the reviewed text there, and keep it with the project"),
        ({"terms": "terms"}, "its terms terms are missing; put the reviewed text there, and keep it with the project"),
    ],
)
@pytest.mark.parametrize("kind", COVERED)
def test_one_problem_stops_the_cycle(reviews: dict[str, LicenceReview], tmp_path: Path, kind: str, change: Any, said: str) -> None:
    reviews[kind] = replace(reviews[kind], **change)
    [line] = problems(reviews, tmp_path)
    assert line.startswith(f"governance.licenses 'the {kind}' ({kind}): {said}")


def test_terms_that_changed_under_a_review_need_a_new_one(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    text = tmp_path / "terms" / "outputs.md"
    text.write_text(text.read_text(encoding="utf-8") + "No models may be trained on them.\n", encoding="utf-8")
    [said] = problems(reviews, tmp_path)
    assert (
        file_digest(text) in said and reviews["outputs"].terms_sha256 in said and said.endswith("read the text again and set terms_sha256")
    )


def test_a_good_review_does_not_make_up_for_a_bad_one_of_the_same_kind(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    reviews["second"] = replace(reviews["data"], name="more data", allowed=False)
    [said] = problems(reviews, tmp_path)
    assert "'more data' (data)" in said


def test_all_problems_are_told_at_once(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    del reviews["data"]
    reviews["teacher"] = replace(reviews["teacher"], expires=TODAY - DAY, allowed=False, terms="terms/gone.md")
    reviews["outputs"] = replace(reviews["outputs"], reviewed=TODAY + DAY, terms_sha256="0" * 64)
    said = problems(reviews, tmp_path)
    words = ["covers the data", "not allowed", "expired", "gone.md are missing", "in the future", "has digest"]
    assert len(said) == len(words) and all(word in line for word, line in zip(words, said, strict=True))


def test_no_reviews_at_all(tmp_path: Path) -> None:
    assert len(problems({}, tmp_path)) == 3


def test_the_examples_own_reviews_hold() -> None:
    params = load_params(ROOT / "params.yaml")
    licenses, teacher = params.governance, params.teacher
    used = Used(teacher.model, teacher.revision, teacher.backend, tuple(source.path for source in params.data.source))
    told = review(licenses, used, max(x.reviewed for x in licenses.licenses), ROOT)
    assert {x["covers"] for x in told} == set(COVERED)


@pytest.mark.parametrize("field", ["name", "licence", "reviewer"])
@pytest.mark.parametrize("value", ["", "  ", "unknown", "Nobody  yet", "TODO"])
def test_a_review_names_what_was_reviewed_the_licence_and_the_reviewer(
    reviews: dict[str, LicenceReview], tmp_path: Path, field: str, value: str
) -> None:
    reviews["outputs"] = replace(reviews["outputs"], **{field: value})
    [said] = problems(reviews, tmp_path)
    assert f"(outputs): {field} is {value!r}; write the " in said


@pytest.mark.parametrize(
    "used",
    [
        replace(USED, model="owner/other"),
        replace(USED, revision="v2"),
        replace(USED, backend="openai"),
    ],
)
def test_another_teacher_needs_another_review(reviews: dict[str, LicenceReview], tmp_path: Path, used: Used) -> None:
    teacher, outputs = problems(reviews, tmp_path, used)
    assert teacher.startswith("the teacher was reviewed for owner/teacher vllm, but params name owner/")
    assert outputs.startswith("the outputs were reviewed for")
    assert f"model: {used.model!r}, backend: {used.backend}" in teacher and ("revision: v2" in teacher) == (used.revision == "v2")
    about = {"model": used.model, "revision": used.revision, "backend": used.backend}
    both = {**reviews, **{f"new {kind}": replace(reviews[kind], **about) for kind in ("teacher", "outputs")}}
    assert len(review(GovernanceParams(licenses=tuple(both.values())), used, TODAY, tmp_path)) == 5, "the old reviews may stay"


def test_more_data_needs_a_review(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    used = replace(USED, sources=("a.jsonl", "b.jsonl", "hf:owner/more"))
    [said] = problems(reviews, tmp_path, used)
    assert said == "no review of data covers hf:owner/more; read its terms, and add it to sources of the review"
    reviews["more"] = replace(reviews["data"], name="more", sources=("hf:owner/more",))
    assert len(review(GovernanceParams(licenses=tuple(reviews.values())), used, TODAY, tmp_path)) == 4


def test_reviews_of_before_hold_for_what_the_lock_says(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    """They do not say what they are about: it is what they were locked with. Nothing else is covered, and a new project must say it."""
    old = {kind: replace(x, model=None, backend=None, sources=None) for kind, x in reviews.items()}
    lines = problems(old, tmp_path)
    assert "it does not say which teacher was reviewed; add model: 'owner/teacher', backend: vllm" in lines[0]
    assert lines[2].endswith("(data): it does not say which data was reviewed; add sources: [a.jsonl, b.jsonl]") and len(lines) == 3
    locked = tuple(review(GovernanceParams(licenses=tuple(reviews.values())), USED, TODAY, tmp_path))
    told = review(GovernanceParams(licenses=tuple(old.values())), replace(USED, locked=locked), TODAY, tmp_path)
    assert told == list(locked)
    assert len(problems(old, tmp_path, replace(USED, locked=locked, model="owner/other"))) == 2
    renewed = {kind: replace(x, reviewed=TODAY) for kind, x in old.items()}
    assert len(problems(renewed, tmp_path, replace(USED, locked=locked))) == 3, "a new review says what it is about"


def test_days_are_utc() -> None:
    import os
    import subprocess
    import sys

    code = (
        "import datetime as dt; from redistill.validation.licences import today_utc; print(today_utc() == dt.datetime.now(dt.UTC).date())"
    )
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "TZ": zone}, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"
