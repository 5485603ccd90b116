"""Stage ``prepare``: reads the sources and writes the prompts of every split, filtered before any teacher call."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from redistill.data import sources
from redistill.data.params import DataParams
from redistill.data.types import SPLITS, Prompt
from redistill.errors import DataError
from redistill.io.json import write_json
from redistill.io.parquet import write_records
from redistill.validation.intake import judge
from redistill.validation.params import IntakeParams
from redistill.validation.types import DroppedRow
from tasks.locking.licence_check import require_reviewed
from tasks.paths import ARTIFACTS

NEEDED = ("train", "heldout")


def prepare(data: DataParams, intake: IntakeParams) -> None:
    """Read, split by hash, judge, and write one file a split; dropped rows go to quarantine, redacted.

    Raises:
        DataError: a source cannot be read, or a split that the cycle needs ends up empty.
    """
    require_reviewed()
    splits, dropped = judge(sources.load(data, Path()), intake)
    for name in NEEDED:
        if not splits.get(name):
            raise DataError(f"split {name} is empty after intake; give its source a larger share in data.source, or more rows")
    if data.has_monitor and len(splits.get("monitor", [])) < 2:
        raise DataError(
            f"split monitor has {len(splits.get('monitor', []))} rows after intake, so there is nothing to show people instead of the held-out rows; "
            "give its source a larger share in data.source, or no share of monitor"
        )
    for name in SPLITS:
        write_records(ARTIFACTS / "prompts" / f"{name}.parquet", Prompt, splits.get(name, []))
    write_records(ARTIFACTS / "prompts" / "quarantine.parquet", DroppedRow, dropped)
    reasons = Counter((d.filter, d.reason) for d in dropped)
    write_json(
        ARTIFACTS / "prompts" / "summary.json",
        {
            "rows": {name: len(splits.get(name, [])) for name in SPLITS},
            "dropped": [{"filter": f, "reason": r, "rows": n} for (f, r), n in sorted(reasons.items())],
        },
    )
