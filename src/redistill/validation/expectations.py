"""The rules for a batch of completions before training: a Great Expectations suite.

The suite reads only derived columns (flags, counts, lengths), never text: validation results and Data Docs copy cell
values, and must not contain personal data or teacher text. Rules for single rows have quarantined their rows before. A failed
batch rule stops the cycle.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from redistill.errors import DataError
from redistill.validation.params import ValidateParams


@dataclass(frozen=True, slots=True)
class DerivedRow:
    """One completion as numbers."""

    id: str
    kept: bool
    completion_tokens: int
    mean_logprob: float | None
    labels: int
    from_teacher: str


def check_batch(rows: Sequence[DerivedRow], params: ValidateParams, max_tokens: int, docs: Path) -> list[dict[str, Any]]:
    """Run the checkpoint, write Data Docs, and return each rule with its outcome.

    Raises:
        DataError: a batch rule failed or could not be evaluated; says which, what was seen, and the limit.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    import pandas as pd

    # Column by column: a list for each of a million rows takes as much memory as the rows.
    frame = pd.DataFrame({field.name: [getattr(row, field.name) for row in rows] for field in fields(DerivedRow)}).astype({"kept": int})
    context = gx.get_context(mode="file", project_root_dir=docs)
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_or_update_pandas("completions").add_dataframe_asset("batch").add_batch_definition_whole_dataframe("whole")
    )
    suite = context.suites.add_or_update(gx.ExpectationSuite(name="completions", expectations=_rules(params, max_tokens)))
    definition = context.validation_definitions.add_or_update(gx.ValidationDefinition(name="completions", data=batch, suite=suite))
    checkpoint = context.checkpoints.add_or_update(
        gx.Checkpoint(
            name="completions",
            validation_definitions=[definition],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="docs")],
            result_format="SUMMARY",
        )
    )
    result = checkpoint.run(batch_parameters={"dataframe": frame})
    rules = [_rule(r) for run in result.run_results.values() for r in run.results]
    broken = [r for r in rules if not r["passed"]]
    if broken:
        problems = "; ".join(
            f"{r['rule']} on {r['column']}: observed {r['seen']}" + (f", limits {r['limits']}" if r["limits"] else "") for r in broken
        )
        raise DataError(
            f"the teacher's completions fail {len(broken)} batch rule{'s' * (len(broken) > 1)}: {problems}; the reasons for dropped rows are printed above; fix the teacher, the template or the limits before training on them"
        )
    return rules


def _rules(params: ValidateParams, max_tokens: int) -> list[Any]:
    """What must hold of a batch of completions."""
    from great_expectations import expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    kept = {"row_condition": Column("kept") == 1}
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=params.min_rows),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnMeanToBeBetween(column="kept", min_value=params.min_kept_share),
        gxe.ExpectColumnValuesToBeBetween(column="completion_tokens", min_value=1, max_value=max_tokens + 1, **kept),
        gxe.ExpectColumnValuesToNotBeNull(column="from_teacher"),
        gxe.ExpectColumnUniqueValueCountToBeBetween(column="labels", min_value=1, **kept),
    ]


def _rule(result: Any) -> dict[str, Any]:
    arguments = result.expectation_config.kwargs
    limits = {k: v for k, v in arguments.items() if k in ("min_value", "max_value") and v is not None}
    seen = result.result.get("observed_value", result.result.get("unexpected_count"))
    return {
        "rule": result.expectation_config.type,
        "column": arguments.get("column", "(table)"),
        "limits": limits,
        "seen": seen,
        # An expectation that raised an exception has not passed, whatever its success flag says.
        "passed": bool(result.success) and not (result.exception_info or {}).get("raised_exception", False),
    }
