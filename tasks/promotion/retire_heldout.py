"""``redistill heldout retire``: ends the use of a held-out set, and shows what was sealed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from redistill.data.types import Prompt
from redistill.errors import ConfigError
from redistill.io.parquet import read_records
from redistill.params import Params
from redistill.promotion.alpha_spending import heldout_identity, level_of
from redistill.promotion.evidence import BenchmarkResult
from tasks.paths import ARTIFACTS, STATE
from tasks.registry import look_ledger, transitions
from tasks.registry.runs_and_versions import connect
from tasks.results.files import SEALED, write_open
from tasks.results.measurements import read_sealed
from tasks.results.rows import HELDOUT

RETIRED = ARTIFACTS / "retired"


def retire(params: Params, reason: str, *, force: bool = False) -> dict[str, Any]:
    """Write every sealed result of today's held-out set to ``artifacts/retired/``, after the ledger says that the set decides nothing any more.

    Raises:
        ConfigError: no reason; held-out rows are open already; or decisions are left on the set, without ``force``.
        RegistryError: the ledger is broken or out of reach; then nothing was shown.
    """
    if not reason.strip():
        raise ConfigError("give a reason with --reason; it is recorded in the history")
    if not params.promote.sealed:
        raise ConfigError(
            "the held-out rows of this project are open (promote.heldout), so there is nothing to unseal; replace them when they are used up"
        )
    prompts = read_records(HELDOUT, Prompt)
    ids, heldout = [p.id for p in prompts], heldout_identity((p.id, p.label or "") for p in prompts)
    # Everything is read before the set is spent: a damaged file stops the command, and nothing is lost.
    results = [read_sealed(folder) for folder in _sealed_results()]
    client = connect(params)
    with transitions.registry_lock():
        history = look_ledger.History.of(client, params, heldout, ids)
        level = level_of(history.left(params.promote), params.promote)
        if level and not force:
            raise ConfigError(
                f"decisions are left on this held-out set (the next at level {level:.2g}); retire it with --force all the same, or when it is used up"
            )
        # First the entry: no person may have seen results of a set that can still decide.
        look_ledger.record_retirement(client, params, history)
    models = [_opened(result, heldout) for result in results]
    transitions.record(
        client,
        params,
        "heldout-retired",
        None,
        f"held-out set {heldout[:16]} of {len(ids)} rows: {reason}",
        transitions.live(client, params),
    )
    return {
        "heldout": heldout,
        "rows": len(ids),
        "folder": str(RETIRED / heldout[:16]),
        "models": [model for model in models if model is not None],
    }


def _sealed_results() -> list[Path]:
    """Folders with sealed results: of this cycle, and of versions that were measured for a comparison."""
    places = (ARTIFACTS / "heldout", STATE / "evaluations")
    return [file.parent for place in places for file in sorted(place.glob(f"*/{SEALED}"))]


def _opened(result: BenchmarkResult, heldout: str) -> dict[str, Any] | None:
    """Write one model's results openly; None if they are about other rows, or are there already."""
    report, outcomes = result
    target = RETIRED / heldout[:16] / report.model_digest[:16]
    if heldout_identity((o.prompt_id, o.target) for o in outcomes) != heldout or target.is_dir():
        return None
    write_open(target, report, outcomes, [])
    interval = dataclasses.asdict(report.exact_match.interval)
    return {
        "who": report.who,
        "rows": report.n,
        "exact_match": report.exact_match.value,
        "exact_match_interval": interval,
        "f1": report.f1.value,
    }
