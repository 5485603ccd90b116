"""Writes the results of one model: open ones for people, sealed ones for decisions only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from redistill.evaluation.summary import report_to_json
from redistill.evaluation.types import EvalReport, Outcome, PairOutcome
from redistill.io.atomic import replacing_directory
from redistill.io.json import write_json
from redistill.io.parquet import write_records
from redistill.io.sealed import SUFFIX, seal

SEALED = f"results{SUFFIX}"
SUMMARY = "summary.json"


def write_open(target: Path, report: EvalReport, outcomes: Sequence[Outcome], pairs: Sequence[PairOutcome]) -> None:
    with replacing_directory(target) as folder:
        write_records(folder / "outcomes.parquet", Outcome, outcomes)
        write_records(folder / "pairs.parquet", PairOutcome, pairs)
        write_json(folder / "report.json", report_to_json(report))


def write_sealed(target: Path, report: EvalReport, outcomes: Sequence[Outcome]) -> None:
    """The results behind a seal, and beside it what anybody may know: which model, on how many rows of each slice."""
    slices = {name: sum(o.slice == name for o in outcomes) for name in sorted({o.slice for o in outcomes})}
    identities = {key: getattr(report, key) for key in ("who", "model_digest", "heldout_digest", "template_digest", "backend", "n")}
    tree = {"report": report_to_json(report), "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes]}
    with replacing_directory(target) as folder:
        seal(folder / SEALED, json.dumps(tree).encode())
        write_json(folder / SUMMARY, {**identities, "slices": slices})
