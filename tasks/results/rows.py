"""Which labelled rows a model is measured on: those that people look at, or the sealed ones that decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redistill.data.params import DataParams
from redistill.data.sources import file_locks
from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.evaluation.params import BenchmarkParams
from redistill.io.digests import canonical_digest, file_digest
from redistill.io.parquet import read_records
from redistill.runtime.precision import resolved
from tasks.locking.locked_code import locked_code
from tasks.paths import ARTIFACTS, STATE

HELDOUT = ARTIFACTS / "prompts" / "heldout.parquet"
_MONITOR = ARTIFACTS / "prompts" / "monitor.parquet"


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows, and the stage that measures models on them. The results on ``sealed`` rows are written so that nobody reads them by accident."""

    file: Path
    split: str
    stage: str
    sealed: bool = False

    @property
    def results(self) -> Path:
        """The folder with one folder of results for each model."""
        return ARTIFACTS / self.stage

    def prompts(self) -> list[Prompt]:
        """The rows.

        Raises:
            DataError: there are fewer than two.
        """
        prompts: list[Prompt] = read_records(self.file, Prompt)
        if len(prompts) < 2:
            raise DataError(
                f"the split {self.split} has {len(prompts)} rows; a benchmark needs at least 2 and a decision some hundreds; "
                f"add labelled rows to the split {self.split}"
            )
        return prompts

    def memo(self, model_digest: str, data: DataParams, params: BenchmarkParams) -> Path:
        """Where the result for exactly this model, these rows, template, measurement and measuring code is remembered."""
        code = locked_code(self.stage)
        files = [file_digest(self.file), *(lock["sha256"] for lock in file_locks(params.files))]
        return STATE / "evaluations" / canonical_digest([model_digest, files, str(data), str(params), code, resolved()])[:32]


def shown_rows(data: DataParams) -> Rows:
    """The rows that people look at: those of `monitor`; a project whose sources have no share of it shows its held-out rows."""
    return Rows(_MONITOR, "monitor", "benchmark") if data.has_monitor else Rows(HELDOUT, "heldout", "benchmark")


def sealed_rows() -> Rows:
    """The held-out rows of a project that has others to look at."""
    return Rows(HELDOUT, "heldout", "heldout", sealed=True)


def deciding_identities(who: str, data: DataParams) -> Path:
    """The JSON file with the digests of what decides about a model: of its weights, its rows and its template."""
    return sealed_rows().results / who / "summary.json" if data.has_monitor else shown_rows(data).results / who / "report.json"
