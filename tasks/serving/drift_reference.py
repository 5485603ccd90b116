"""The rows that models are judged on, with what the live version wrote for them when it was measured."""

from __future__ import annotations

from typing import Any

from redistill.data.grammars.types import labels_in
from redistill.data.types import Prompt
from redistill.errors import RegistryError
from redistill.evaluation.outcomes import objection
from redistill.evaluation.types import Outcome
from redistill.io.json import read_json, write_json
from redistill.params import Params
from redistill.promotion.cascade import Cascade
from redistill.report.operating_points import confidence_of
from redistill.serving.drift.types import Reference
from redistill.serving.types import Route
from tasks.paths import STATE
from tasks.registry import evidence_bundle
from tasks.registry.runs_and_versions import connect
from tasks.results.rows import shown_rows
from tasks.serving.served_version import own_outcomes

KEPT = STATE / "serving" / "drift-reference.json"
"""What a version wrote, kept after its signature was checked: its bundle is not downloaded again for every window."""


def reference_of(params: Params, route: Route, system: str) -> Reference:
    """Texts and slices of the rows that people look at; labels and scores too, where a version is live and its bundle verifies.

    Raises:
        DataError: ``prepare`` has not run.
    """
    prompts = shown_rows(params.data).prompts()
    of_student = _of_version(params, route, system, prompts) if route.model_version else {"gap": "no student is live"}
    of_student = {key: tuple(value) if isinstance(value, list) else value for key, value in of_student.items()}
    return Reference(tuple(p.text for p in prompts), tuple(p.slice for p in prompts), **of_student)


def _of_version(params: Params, route: Route, system: str, prompts: list[Prompt]) -> dict[str, Any]:
    try:
        kept = read_json(KEPT)
        if kept["system"] == system:
            return dict(kept["of_student"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    version = str(route.model_version)
    try:
        client = connect(params)
        outcomes = own_outcomes(evidence_bundle.verified(client, params, version), client, params, version)
    except RegistryError as error:
        return {"gap": f"what version {version} wrote when it was measured is not here ({error})"}
    of_student = _summary(params, route.cascade, prompts, outcomes)
    write_json(KEPT, {"system": system, "of_student": of_student})
    return of_student


def _summary(params: Params, cascade: Cascade | None, prompts: list[Prompt], outcomes: list[Outcome]) -> dict[str, Any]:
    """Labels, scores, and how many rows the router would defer or find faulty."""
    grammar, texts = params.data.grammar, {p.id: p.text for p in prompts}
    rows = [o for o in outcomes if o.prompt_id in texts]
    if not rows:
        return {"gap": "the live version was measured on other rows than those of today"}
    faulty = [bool(o.objection or objection(grammar, o.response, texts[o.prompt_id])[0]) for o in rows]
    sure = [] if cascade is None else [confidence_of(o, cascade.score) for o in rows]
    deferred = (
        sum(cascade.choose(o.confidences).answers == "teacher" for o, bad in zip(rows, faulty, strict=True) if not bad) if cascade else None
    )
    return {
        "labels": ["; ".join(labels_in(grammar, o.response)) for o in rows],
        "scores": [value for value, bad in zip(sure, faulty, strict=bool(sure)) if not bad and abs(value) != float("inf")],
        "deferred": deferred,
        "failed": sum(faulty),
    }
