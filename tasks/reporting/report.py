"""The report of a cycle: the evidence for its decision, as ``report.json`` and one page."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redistill.data.types import SPLITS, Prompt
from redistill.evaluation.retention import agreement, retention
from redistill.evaluation.summary import report_from_json
from redistill.evaluation.timing import timing_from_json, timing_to_json
from redistill.evaluation.types import Outcome
from redistill.io.atomic import replacing
from redistill.io.digests import tree_digest
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records
from redistill.operations.cycle_summary import CycleSummary, within
from redistill.operations.types import StageReceipt
from redistill.params import Params
from redistill.promotion.types import PromotionDecision
from redistill.provenance import dvc_lock
from redistill.serving.types import Route
from redistill.statistics.shares import share
from redistill.statistics.types import Score
from redistill.validation.types import DroppedRow
from tasks.paths import ARTIFACTS, LOCK
from tasks.registry.cycle_summaries import recent_cycles
from tasks.registry.history import History
from tasks.registry.runs_and_versions import connect, git_commit
from tasks.reporting.cascade import cascade_section
from tasks.reporting.economics import NOTHING, economics
from tasks.reporting.summarise_cycle import teacher_use
from tasks.reporting.trends import DAYS
from tasks.results.measurements import read_open
from tasks.results.rows import shown_rows
from tasks.stages.timing import TIMING

REPORT = ARTIFACTS / "report"
ORDER = ("teacher", "prompted", "linear", "base", "gold", "sft", "kd")
_EXAMPLES = 12


def write_report(
    params: Params,
    cycle: str,
    version: str,
    decision: PromotionDecision,
    route: Route,
    receipts: Sequence[StageReceipt],
    judgement: dict[str, Any],
    history: History,
) -> dict[str, Any]:
    """Write ``report.json``, ``index.html`` and the model card, and return the content of the first."""
    from redistill.report.model_card import model_card
    from redistill.report.page import render

    nights = recent_cycles(params, DAYS)
    tree = {
        "schema": 1,
        "cycle": cycle,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "data_name": params.data.name,
        "candidate": params.promote.arm,
        "model_version": version,
        "decision": dataclasses.asdict(decision),
        "judgement": {key: value for key, value in judgement.items() if key not in ("decision", "patch")},
        "patch": _patch(params, judgement.get("patch")),
        "route": {**dataclasses.asdict(route), "answers": route.answers},
        "history": _history(params, history),
        **_measurements(params, receipts, within(nights, 30), _deferred(judgement)),
        "nights": [dataclasses.asdict(night) for night in nights],
        "teacher_use": teacher_use(receipts),
        "governance": _governance(),
        "training": _curves(),
        "sweep": [read_json(ARTIFACTS / "sweep" / f"{point}.json") for point in params.sweep.layers],
        "stages": [
            {"stage": r.stage, "outcome": r.outcome, "seconds": round(r.seconds, 1), "machine_s": round(r.cost_s, 1), "why": list(r.why)}
            for r in receipts
        ],
        "lineage": _lineage(),
    }
    tree = dict(json.loads(json.dumps(tree, default=str)))
    write_json(REPORT / "report.json", tree)
    for name, text in (("index.html", render(tree)), ("model-card.md", model_card(tree, params.governance.purpose))):
        with replacing(REPORT / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return tree


def _deferred(judgement: dict[str, Any]) -> Score:
    """The share of the rows that the judged system gives to the teacher."""
    if judgement["decision"]["mode"] == "student":
        return NOTHING
    return share(judgement["rows"] - judgement["answered"], judgement["rows"])


def _measurements(params: Params, receipts: Sequence[StageReceipt], past: Sequence[CycleSummary], deferred: Score) -> dict[str, Any]:
    """What the benchmark and the timing say of every arm, and of student against teacher."""
    arms = {who: read_json(ARTIFACTS / "benchmark" / who / "report.json") for who in _measured()}
    reports = {who: report_from_json(tree) for who, tree in arms.items()}
    timing = timing_from_json(read_json(TIMING))
    for who, arm in arms.items():
        times = timing.of(who)
        arm["cost"] |= times.shown() if times is not None else {}
    student, teacher = (read_open(shown_rows(params.data).results / who)[1] for who in (params.promote.arm, "teacher"))
    kept = retention(student, teacher, params.benchmark.bootstrap, params.benchmark.seed, free_text=params.data.grammar is None)
    return {
        "arms": arms,
        "retention": {metric: None if score is None else dataclasses.asdict(score) for metric, score in kept.items()},
        "timing": timing_to_json(timing),
        "economics": economics(params, receipts, reports, timing, past, deferred),
        "cascade": cascade_section(params, timing),
        "agreement": dataclasses.asdict(agreement(student, teacher)),
        "examples": _examples(params, student, teacher),
        "measured_on": shown_rows(params.data).split,
    }


def _history(params: Params, history: History) -> list[dict[str, Any]]:
    """The history before this cycle's own decision."""
    return [dataclasses.asdict(event) for event in history.events(connect(params), params)][-50:]


def _measured() -> list[str]:
    there = [p.parent.name for p in (ARTIFACTS / "benchmark").glob("*/report.json")]
    return sorted(there, key=lambda w: (ORDER.index(w) if w in ORDER else len(ORDER), w))


def _governance() -> dict[str, Any]:
    """What was dropped before and after the teacher, and whether every planted row was caught."""
    quarantine = read_records(ARTIFACTS / "prompts" / "quarantine.parquet", DroppedRow)
    dropped = quarantine + read_records(ARTIFACTS / "validated" / "dropped.parquet", DroppedRow)
    splits = [p for s in SPLITS for p in read_records(ARTIFACTS / "prompts" / f"{s}.parquet", Prompt)]
    return {
        "intake": read_json(ARTIFACTS / "prompts" / "summary.json"),
        "validate": read_json(ARTIFACTS / "validated" / "summary.json"),
        "planted_caught": sum(d.planted is not None for d in quarantine),
        "planted_passed": [p.source_id for p in splits if p.planted is not None],
        "sample": [dataclasses.asdict(d) for d in dropped[:40]],
        "licences": read_json(LOCK)["licence"],
    }


def _patch(params: Params, plan: dict[str, Any] | None) -> dict[str, Any] | None:
    """The plan of a hold with the user's own ids. It is also written to a separate file."""
    if plan is None:
        (REPORT / "patch.json").unlink(missing_ok=True)
        return None
    ids = {p.id: p.source_id for p in shown_rows(params.data).prompts()}
    named = {key: [{"source_id": ids[row["prompt_id"]], **row} for row in plan[key]] for key in ("lost", "relabel")}
    write_json(REPORT / "patch.json", {**plan, **named})
    return {**plan, **named}


def _examples(params: Params, student: Sequence[Outcome], teacher: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Rows where student and teacher differ, both ways, in the order of the file."""
    text = {p.id: p.text for p in shown_rows(params.data).prompts()}
    teacher_outcomes = {o.doc_hash: o for o in teacher}
    pairs = [(s, teacher_outcomes[s.doc_hash]) for s in student if s.response != teacher_outcomes[s.doc_hash].response]
    picked = [p for p in pairs if p[0].exact][: _EXAMPLES // 3] + [p for p in pairs if not p[0].exact and p[1].exact][: _EXAMPLES // 3]
    picked += [p for p in pairs if not p[0].exact and not p[1].exact][: _EXAMPLES - len(picked)]
    return [
        {"text": text[s.prompt_id], "slice": s.slice, "target": s.target, "teacher": t.response, "student": s.response,
         "teacher_exact": t.exact, "student_exact": s.exact}
        for s, t in picked
    ]  # fmt: skip


def _curves() -> dict[str, list[dict[str, float]]]:
    curves = {}
    for file in sorted((ARTIFACTS / "students").glob("*.metrics.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        keys = ("step", "loss", "kl_nats_per_token", "cross_entropy_nats_per_token")
        curves[file.name.split(".")[0]] = [{k: float(r[k]) for k in keys if k in r} for r in rows if "loss" in r]
    return curves


def _lineage() -> dict[str, Any]:
    """From the candidate back to every input digest."""
    lock = read_json(LOCK)
    stages = dvc_lock.read(Path("dvc.lock"))
    return {
        "git_commit": git_commit(),
        "teacher": {"source": lock["source"], "current": lock["current"]["digest"], "answers_from": lock["answers_from"]},
        "sources": read_json("sources.lock.json"),
        "dvc_lock_sha256": tree_digest("dvc.lock"),
        "params_sha256": tree_digest("params.yaml"),
        "outs": {out.path: {"md5": out.md5, "stage": name} for name, stage in sorted(stages.items()) for out in stage.outs},
    }
