"""``redistill labels export``: what a hold asks people to label, as a JSONL file that they fill in.

Rows for the splits that are measured (`heldout`, `monitor`) are drawn at random, because they must be like the traffic: first from the rows that no split uses, then from the pool.
Rows for training are those that the plan of the last report asks for: of the slices and labels where the student lost. Rows whose label looks wrong are asked
again, without the present label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from redistill.data.grammars.types import labels_in
from redistill.data.rows import read_source
from redistill.data.sources import split_of
from redistill.data.types import Prompt
from redistill.errors import ConfigError, DataError
from redistill.io.atomic import replacing
from redistill.io.digests import canonical_digest
from redistill.io.json import json_lines, read_json
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.teacher.types import TeacherCompletion
from redistill.validation.filters.personal_data import redact
from redistill.validation.intake import judge_row
from redistill.validation.types import Keep
from tasks.paths import ARTIFACTS
from tasks.results.rows import shown_rows

Purpose = Literal["heldout", "monitor", "train", "relabel"]
_PROMPTS = ARTIFACTS / "prompts"
_NO_LABEL = "(text)"


def export(params: Params, purpose: Purpose, out: Path, rows: int, *, teacher: bool = False) -> dict[str, Any]:
    """Write rows to label; returns how many, and why each was chosen.

    Args:
        rows: the most rows to ask for.
        teacher: whether people see the teacher's completion. Without it, their label is their own.

    Raises:
        ConfigError: a row with several turns cannot be labelled this way.
        DataError: no cycle has run here yet, or the last report has no plan.
    """
    completions = _completions()
    if purpose == "relabel":
        chosen = _suspicious(params)
    elif purpose == "train":
        chosen = _of_the_plan(params, completions)
    else:
        chosen = [(prompt, f"a random row for {purpose}") for prompt in _random(params, purpose)]
    chosen = chosen[:rows]
    if not chosen:
        raise DataError(
            f"there is nothing to label for {purpose}: the pool has no fitting row, or the plan of the last report asks for none"
        )
    lines = []
    for prompt, why in chosen:
        if len(prompt.messages) != 1 or prompt.columns:
            raise ConfigError(f"row {prompt.source_id} has several turns, or columns beside its text; label such rows in their own file")
        row = {"prompt_id": prompt.id, "id": prompt.source_id, "text": prompt.text, "slice": prompt.slice, "why": why, "label": ""}
        if teacher:
            # The completion was not judged yet, and people read this file.
            row["teacher"] = redact(completions.get(prompt.id, ""))
        lines.append(row)
    with replacing(out) as temporary:
        temporary.write_text(json_lines(lines), encoding="utf-8")
    return {"file": str(out), "rows": len(lines), "purpose": purpose}


def _completions() -> dict[str, str]:
    file = ARTIFACTS / "completions" / "completions.parquet"
    return {row.prompt_id: row.text for row in read_records(file, TeacherCompletion)} if file.is_file() else {}


def _plan() -> dict[str, Any]:
    file = ARTIFACTS / "report" / "patch.json"
    if not file.is_file():
        raise DataError(
            "the last report has no plan: only a cycle that ended in a hold writes one; ask for rows with --for heldout or --for monitor"
        )
    return dict(read_json(file))


def _pool() -> list[Prompt]:
    """The pool in an order that has nothing to do with its content, the same for everyone."""
    return _in_random_order(read_records(_PROMPTS / "pool.parquet", Prompt))


def _in_random_order(prompts: Sequence[Prompt]) -> list[Prompt]:
    return sorted(prompts, key=lambda prompt: canonical_digest(["label", prompt.id]))


def _random(params: Params, purpose: str) -> list[Prompt]:
    """Rows that no split uses come first: labelling them changes no training row, so the student stays the same. Then rows of the pool.

    One half is for each purpose, so that two exports never ask for the same row.
    """
    first = purpose == "heldout"
    candidates = [*_in_random_order(_reserve(params)), *_pool()]
    return [prompt for prompt in candidates if (int(prompt.id[-1], 16) % 2 == 0) == first]


def _reserve(params: Params) -> list[Prompt]:
    """Rows of the sources that belong to no split, since the shares do not sum to one, as far as intake lets them in."""
    left_out = [
        prompt
        for source in params.data.files
        for row in read_source(source, params.data)
        if split_of((prompt := Prompt.of(row.messages, row.id, row.slice, None, source.path, columns=row.columns)).id, source.splits)
        is None
    ]
    return [prompt for prompt in left_out if judge_row(prompt, params.intake) == Keep()]


def _suspicious(params: Params) -> list[tuple[Prompt, str]]:
    """Rows that people look at on which student and teacher agree, but not with the label."""
    ids = {row["prompt_id"] for row in _plan()["relabel"]}
    return [(p, "student and teacher agree, but not with its label") for p in shown_rows(params.data).prompts() if p.id in ids]


def _of_the_plan(params: Params, completions: dict[str, str]) -> list[tuple[Prompt, str]]:
    """Pool rows of the slices and labels that the plan names, the label by the teacher's completion."""
    wanted = {(cell["slice"], cell["label"]): int(cell["ask_for"]) for cell in _plan()["prompts"]}
    chosen = []
    for prompt in _pool():
        for label in _labels(params, completions.get(prompt.id)):
            if wanted.get((prompt.slice, label), 0) > 0:
                wanted[prompt.slice, label] -= 1
                chosen.append((prompt, f"more rows of {prompt.slice} with {label}"))
                break
    return chosen


def _labels(params: Params, completion: str | None) -> Sequence[str]:
    if completion is None:
        return ()
    return labels_in(params.data.grammar, completion) or (_NO_LABEL,)
