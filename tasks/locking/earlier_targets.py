"""Soft targets of earlier teachers, for the slices that stay with their completions. Their weights are gone, so what they said is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from redistill.distillation.params import ScoreParams
from redistill.distillation.soft_targets.shards import SoftTargetFiles
from redistill.distillation.types import SoftTargets, TrainingRow, sequence_digest
from redistill.errors import DataError
from redistill.io.atomic import replacing_directory
from redistill.io.json import read_json
from tasks.paths import ARTIFACTS, STATE

EARLIER = STATE / "store" / "soft_targets"
"""One folder for each earlier teacher, named by its digest: what ``score`` wrote last before it was replaced."""
SCORED = ARTIFACTS / "soft_targets"
TARGETS = "targets"


def keep(teacher: str) -> None:
    """Keep the soft targets of the teacher that is being replaced; they also hold those of teachers before it.

    What was kept before under the same name stays if it has all of these rows: it was coded once, and these may have been coded twice.
    """
    here = EARLIER / teacher
    if (here / TARGETS).is_dir() and set(SoftTargetFiles(here / TARGETS)) >= set(SoftTargetFiles(SCORED / TARGETS)):
        return
    with replacing_directory(here) as folder:
        shutil.copytree(SCORED, folder, dirs_exist_ok=True)


def copy_whole(rows: Sequence[TrainingRow], params: ScoreParams) -> bool:
    """Write what ``score`` wrote for exactly these rows once more, byte by byte, so that no student trains again; False if there is no such file.

    To read and code the same values again would round them again.
    """
    for folder in _folders(rows[0].teacher):
        summary = read_json(folder / "summary.json")
        files = SoftTargetFiles(folder / TARGETS)
        same = (summary["top_k"], summary["bits"]) == (params.top_k, params.coded_bits) and set(files) == {row.key for row in rows}
        if same and all(_fit(files[row.key], row, params) for row in rows):
            with replacing_directory(SCORED) as target:
                shutil.copytree(folder, target, dirs_exist_ok=True)
            return True
    return False


def read(rows: Sequence[TrainingRow], params: ScoreParams) -> Iterator[SoftTargets]:
    """The kept soft targets of rows that an earlier teacher completed.

    Raises:
        DataError: some are not kept, or were made with other settings.
    """
    kept = {folder.name: SoftTargetFiles(folder / TARGETS) for folder in _folders()} if rows else {}
    for row in rows:
        # Those of its own teacher first: in the files of later teachers, the same values may have been coded once more.
        own = [kept[row.teacher]] if row.teacher in kept else []
        targets = next((files[row.key] for files in (*own, *kept.values()) if row.key in files), None)
        if targets is None or not _fit(targets, row, params):
            what = "are not kept here" if targets is None else "were made with other settings or for another text"
            raise DataError(
                f"the soft targets of {row.prompt_id[:12]}, which earlier teacher {row.teacher[:12]} completed, {what}; "
                "ask the present teacher everything: `redistill lock --ask-again`, then run the cycle"
            )
        yield targets


def _folders(first: str = "") -> list[Path]:
    return sorted(EARLIER.iterdir(), key=lambda folder: (folder.name != first, folder.name)) if EARLIER.is_dir() else []


def _fit(targets: SoftTargets, row: TrainingRow, params: ScoreParams) -> bool:
    return (
        targets.sequence == sequence_digest(row.token_ids)
        and targets.top_ids_TK.shape[1] <= params.top_k
        and set(params.temperatures) - {1.0} <= set(targets.log_z)
    )
