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
from redistill.validation.licences import COVERED, review
from redistill.validation.params import GovernanceParams, LicenceReview

TODAY = dt.date(2026, 11, 22)
DAY = dt.timedelta(days=1)
ROOT = Path(__file__).parents[3]


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
        )
    return made


def problems(reviews: dict[str, LicenceReview], root: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        review(GovernanceParams(licenses=tuple(reviews.values())), TODAY, root)
    start = "licence review stops the cycle before any teacher call: "
    assert str(caught.value).startswith(start) and "\n" not in str(caught.value)
    return str(caught.value).removeprefix(start).split(" | ")


def test_what_was_reviewed_is_handed_to_the_lock(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    told = review(GovernanceParams(licenses=tuple(reviews.values())), TODAY, tmp_path)
    assert [x["covers"] for x in told] == list(COVERED)
    assert told[0] == {
        "name": "the teacher",
        "covers": "teacher",
        "licence": "Apache-2.0",
        "terms_sha256": reviews["teacher"].terms_sha256,
        "reviewer": "A. Reader",
        "reviewed": "2026-10-23",
        "expires": "2026-12-22",
    }


def test_the_first_and_the_last_day_count(reviews: dict[str, LicenceReview], tmp_path: Path) -> None:
    edges = {k: replace(x, reviewed=TODAY, expires=TODAY) for k, x in reviews.items()}
    assert len(review(GovernanceParams(licenses=tuple(edges.values())), TODAY, tmp_path)) == 3


@pytest.mark.parametrize("kind", COVERED)
def test_what_nobody_reviewed_is_not_covered(reviews: dict[str, LicenceReview], tmp_path: Path, kind: str) -> None:
    del reviews[kind]
    assert problems(reviews, tmp_path) == [f"no entry in governance.licenses covers the {kind}; add one"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expires": TODAY - DAY}, "the review expired on 2026-11-21; read the terms again and set reviewed and expires"),
        ({"reviewed": TODAY + DAY}, "reviewed on 2026-11-23, which is in the future"),
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
    licenses = load_params(ROOT / "params.yaml").governance
    told = review(licenses, max(x.reviewed for x in licenses.licenses), ROOT)
    assert {x["covers"] for x in told} == set(COVERED)
