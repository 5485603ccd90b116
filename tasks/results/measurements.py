"""Reads the results of one model, on the rows that people look at and on those that decide."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from redistill.errors import DataError
from redistill.evaluation.summary import report_from_json
from redistill.evaluation.types import Outcome, PairOutcome
from redistill.io.json import read_json
from redistill.io.parquet import read_records
from redistill.io.sealed import unseal
from redistill.promotion.evidence import BenchmarkResult
from tasks.results.files import SEALED


def read_open(folder: Path) -> BenchmarkResult:
    """A benchmark's report and outcomes, as records."""
    return report_from_json(read_json(folder / "report.json")), read_records(folder / "outcomes.parquet", Outcome)


def read_sealed(folder: Path) -> BenchmarkResult:
    """The same of sealed results. What is returned must not be shown or logged.

    Raises:
        DataError: the file is missing or damaged.
    """
    tree = json.loads(unseal(folder / SEALED))
    return report_from_json(tree["report"]), TypeAdapter(list[Outcome]).validate_python(tree["outcomes"])


def pairs_in(folder: Path) -> list[PairOutcome]:
    """The responses to counterfactual pairs; nothing where none are named, or where the results are of an earlier version."""
    file = folder / "pairs.parquet"
    return read_records(file, PairOutcome) if file.is_file() else []


@dataclass(frozen=True, slots=True)
class Measurement:
    """Where one model's results are: on the rows that people look at, and on sealed held-out rows. The second is None where held-out rows are open."""

    shown: Path
    sealed: Path | None = None

    def on_shown(self) -> BenchmarkResult:
        return read_open(self.shown)

    def deciding(self) -> BenchmarkResult:
        """The results that decide. Counterfactual pairs and questions outside the task are not rows of a split: they are measured once."""
        shown = self.on_shown()
        if self.sealed is None:
            return shown
        report, outcomes = read_sealed(self.sealed)
        for name in ("model_digest", "template_digest"):
            if getattr(report, name) != getattr(shown[0], name):
                raise DataError(
                    f"the results of {shown[0].who} on monitor rows and on held-out rows differ in {name}, so one of them is old; run a cycle"
                )
        kept = {key: getattr(shown[0], key) for key in ("fairness", "breadth", "architecture")}
        return dataclasses.replace(report, **kept), outcomes

    def pairs(self) -> list[PairOutcome]:
        return pairs_in(self.shown)
