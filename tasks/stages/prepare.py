"""Stage ``prepare``: reads the sources and writes the prompts of every split, filtered before any teacher call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from redistill.data import sources
from redistill.data.params import DataParams
from redistill.data.types import SPLITS, Prompt
from redistill.errors import ConfigError, DataError
from redistill.io.json import read_json, write_json
from redistill.io.parquet import write_records
from redistill.models.structured_outputs import allows
from redistill.validation import drop_counts
from redistill.validation.intake import judge
from redistill.validation.params import IntakeParams
from redistill.validation.types import DroppedRow
from tasks.locking.locked_traffic import snapshots_of
from tasks.paths import ARTIFACTS, SOURCES

NEEDED = ("train", "heldout")


def prepare(data: DataParams, intake: IntakeParams) -> None:
    """Read, split by hash, judge, and write one file a split; dropped rows go to quarantine, redacted.

    Quarantine and summary are written also if the stage then fails, because they say why.

    Raises:
        DataError: a source cannot be read, or a split that the cycle needs ends up empty.
        ConfigError: ``data.structured_outputs`` with a schema that no grammar expresses, or with labels that the grammar does not allow.
    """
    before = sources.load(data, Path(), snapshots_of(data))
    splits, dropped = judge(before, intake, forgotten=_forgotten())
    for line in drop_counts.lines("prepare", dropped):
        print(line, flush=True)
    write_records(ARTIFACTS / "prompts" / "quarantine.parquet", DroppedRow, dropped)
    write_json(
        ARTIFACTS / "prompts" / "summary.json",
        {"rows": {name: len(splits.get(name, [])) for name in SPLITS}, "dropped": drop_counts.counts(dropped)},
    )
    _require_rows(data, before, splits, dropped)
    # Of rows that passed intake: ids of others may hold personal data.
    _check_form(data, splits)
    for name in SPLITS:
        write_records(ARTIFACTS / "prompts" / f"{name}.parquet", Prompt, splits.get(name, []))


def _forgotten() -> frozenset[str]:
    """The digests of prompts that a person had removed, as the lock of the sources has them."""
    return frozenset(read_json(SOURCES).get("forgotten", ())) if SOURCES.is_file() else frozenset()


def _check_form(data: DataParams, rows: Mapping[str, Sequence[Prompt]]) -> None:
    """Every label can be written under the form to which completions are held. Said now and not by the first completion, half an hour later."""
    if data.form is None:
        return
    labels = {p.label: p.source_id for split in rows.values() for p in split if p.label is not None}
    allowed = allows(data.form, list(labels))
    if wrong := [source_id for source_id, fits in zip(labels.values(), allowed, strict=True) if not fits]:
        raise ConfigError(
            f"data.structured_outputs: {len(wrong)} of {len(labels)} different labels cannot be written under the form that xgrammar makes of the task, such as that of "
            f"row {wrong[0]}; simplify data.schema (xgrammar does not read allOf beside properties, lists or decimals in enum, or a pattern that matches a part of a text), or turn it off"
        )


def _require_rows(
    data: DataParams, before: Mapping[str, Sequence[Prompt]], splits: Mapping[str, Sequence[Prompt]], dropped: Sequence[DroppedRow]
) -> None:
    needed = {name: 1 for name in NEEDED} | ({"monitor": 2} if data.has_monitor else {})
    for name, fewest in needed.items():
        count = len(splits.get(name, []))
        if count >= fewest:
            continue
        reason = _reason(name, before, dropped)
        if name == "monitor":
            raise DataError(
                f"split monitor has {count} rows after intake, so there is nothing to show people instead of the held-out rows; {reason}"
                "give its source a larger share in data.source, or no share of monitor"
            )
        raise DataError(f"split {name} is empty after intake; {reason}give its source a larger share in data.source, or more rows")


def _reason(name: str, before: Mapping[str, Sequence[Prompt]], dropped: Sequence[DroppedRow]) -> str:
    """Why a split has too few rows: what intake dropped of it, or else that the sources gave it so few."""
    rows, total = before.get(name, []), sum(map(len, before.values()))
    ids = {p.id for p in rows}
    of_split = [d for d in dropped if d.prompt_id in ids]
    if not rows:
        told = drop_counts.explained(dropped, total)
        return f"the sources have no row for it ({total} rows in all{'; ' + told if told else ''}); "
    told = drop_counts.explained(of_split, len(rows))
    if len(of_split) < len(dropped) and len(dropped) == total:
        told = drop_counts.explained(dropped, total)
    return f"{told}; or " if told else f"the sources have {len(rows)} rows for it; "
