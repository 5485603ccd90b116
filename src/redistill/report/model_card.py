"""The model card of a version: its purpose, its sources, its quality, and when not to use it.

Markdown with the metadata block that model hubs read. All its content comes from ``report.json``; nothing is judged again.

Source: Mitchell et al. 2019, Model Cards for Model Reporting; Hugging Face, "Model Cards".
"""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import yaml

from redistill.evaluation.probes.calibration import surest_right
from redistill.evaluation.types import Bin
from redistill.statistics.shares import share

_OFTEN = 0.9


def model_card(report: dict[str, Any], purpose: str) -> str:
    """The card of a report's candidate."""
    student, teacher = report["arms"][report["candidate"]], report["arms"]["teacher"]
    lineage, decision = report["lineage"], report["decision"]
    licences = report["governance"]["licences"]
    head = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": next((_slug(x["licence"]) for x in licences if x["covers"] == "teacher"), "unknown"),
        "base_model": str(lineage["teacher"]["source"]["model"]),
        "tags": ["distillation", "redistill", _text(report["data_name"])],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {_text(report['data_name'])}, version {_text(report['model_version'])}",
        f"{purpose}\n\nA student of {_text(lineage['teacher']['source']['model'])}, distilled by cycle `{_text(report['cycle'])}` "
        f"on {_text(report['created_at'])[:10]}. Verdict: **{_text(decision['verdict'])}**.",
        "## Results\n\n" + _results(report, student, teacher),
        "## Gates\n\n" + "\n".join(f"- {_text(g['result'])}: {_text(g['sentence'])}" for g in decision["gates"]),
        "## Data\n\n" + _data(report),
        "## Teacher and licences\n\n"
        + "\n".join(
            f"- {_text(x['name'])} ({_text(x['covers'])}): {_text(x['licence'])}, reviewed by {_text(x['reviewer'])} on {_text(x['reviewed'])}, "
            f"until {_text(x['expires'])}"
            for x in licences
        ),
        "## Limits\n\n" + _limits(report, student),
        "## When to fall back to the teacher\n\n" + _fallback(report, student),
        "## Lineage\n\n"
        f"- weights {student['model_digest']}\n- teacher {lineage['teacher']['current']}\n- {_split(report)} rows {student['heldout_digest']}\n"
        f"- dvc.lock {lineage['dvc_lock_sha256']}\n- params.yaml {lineage['params_sha256']}\n- git commit {lineage['git_commit']}\n\n"
        f"`redistill lineage {_text(report['model_version'])}` verifies the whole chain.",
    ]
    return "\n\n".join(parts) + "\n"


def _results(report: dict[str, Any], student: dict[str, Any], teacher: dict[str, Any]) -> str:
    rows = [("exact match", "exact_match"), ("F1", "f1")]
    table = ["| | student | teacher |", "|---|---|---|"]
    table += [f"| {name} | {_score(student[key])} | {_score(teacher[key])} |" for name, key in rows]
    if (graded := student.get("chrf")) is not None:
        table.append(f"| chrF | {100 * graded:.1f} | {_percent(teacher.get('chrf'))} |")
    kept = report.get("retention") or {}
    table += [f"| student ÷ teacher, {name} | {_score(kept[key])} | |" for name, key in (*rows, ("chrF", "chrf")) if key in kept]
    table += [
        f"| F1 of {_text(name)} | {_score(score)} | {_score(teacher['fields'].get(name))} |" for name, score in student["fields"].items()
    ]
    table += [
        f"| exact match in {_text(name)} | {_score(score)} | {_score(teacher['slices'].get(name))} |"
        for name, score in student["slices"].items()
    ]
    if fair := student.get("fairness"):
        other = teacher.get("fairness") or {}
        table.append(f"| flipped counterfactual pairs (of {fair['n']}) | {_score(fair['rate'])} | {_score(other.get('rate'))} |")
    table += [
        f"| outside the task: {_text(name)} | {_score(score)} | {_score((teacher.get('breadth') or {}).get(name))} |"
        for name, score in (student.get("breadth") or {}).items()
    ]
    ratio = report["timing"]["ratio"]["request"]
    spread = f"{ratio['value']:.2f} ({ratio['interval']['low']:.2f}–{ratio['interval']['high']:.2f})"
    table.append(f"| time of a request, teacher = 1 | {spread} | 1 |")
    sizes = [arm["cost"]["parameters"] for arm in (student, teacher)]
    table.append("| parameters, M | " + " | ".join("–" if n is None else f"{n / 1e6:.1f}" for n in sizes) + " |")
    return (
        f"On {student['n']} {_split(report)} rows, in percent, with 95 % intervals. All models were measured with the same backend and template.\n\n"
        + "\n".join(table)
    )


def _split(report: dict[str, Any]) -> str:
    return "monitor" if report.get("measured_on") == "monitor" else "held-out"


def _data(report: dict[str, Any]) -> str:
    intake, kept = report["governance"]["intake"], report["governance"]["validate"]
    rows = ", ".join(f"{_text(k)} {v:,}" for k, v in (intake.get("rows") or {}).items())
    dropped = sum(d["rows"] for d in intake.get("dropped") or ()) + sum(d["rows"] for d in kept.get("dropped") or ())
    sources = "\n".join(f"- {_text(s['path'])}: {s.get('sha256') or s.get('revision')}" for s in report["lineage"]["sources"]["sources"])
    audit = (report.get("judgement") or {}).get("audit")
    audited = f"The {audit['rows']:,} rows that trained it were audited against the held-out rows. " if audit else ""
    return f"Rows: {rows}. {audited}{dropped:,} rows were dropped by filters before training.\n\n{sources}"


def _limits(report: dict[str, Any], student: dict[str, Any]) -> str:
    weakest = (
        sorted(student["slices"].items(), key=lambda pair: pair[1]["value"])[:1]
        + sorted(student["fields"].items(), key=lambda pair: pair[1]["value"])[:2]
    )
    lines = [
        "The model is for one task only. Its completions for other tasks were not tested.",
        "The weakest results: " + ", ".join(f"{_text(name)} ({_score(score)})" for name, score in weakest) + "." if weakest else "",
        _malformed(student),
        f"With the {_split(report)} rows, a loss of less than {100 * report['decision']['smallest_loss']:.1f} points could not be ruled out.",
        "A linear model suffices for this data; a language model may not be needed." if report["decision"]["linear_suffices"] else "",
    ]
    return "\n".join(f"- {line}" for line in lines if line)


def _malformed(student: dict[str, Any]) -> str:
    freely = student.get("malformed_freely")
    if freely is None:
        return f"{student['malformed']} of {student['n']} responses broke the grammar." if student["malformed"] else ""
    return (
        f"It was measured with structured outputs: {student['malformed']} of {student['n']} responses broke the grammar. Without them it would be {freely}."
        " Serve it with them."
    )


def _fallback(report: dict[str, Any], student: dict[str, Any]) -> str:
    lines = [
        "The route switches to the teacher automatically when this version no longer passes the teacher's gate on the current held-out set.",
        "For malformed responses, and for messages that are not like those of the data (another language, another task).",
    ]
    lines += _cascade(report)
    if calibration := student.get("calibration"):
        lines += _confidence(calibration)
    return "\n".join(f"- {line}" for line in lines)


def _cascade(report: dict[str, Any]) -> list[str]:
    """When this version gives a request to its teacher, where it was calibrated for that."""
    tree = report.get("cascade") or {}
    calibration = (tree.get("calibrations") or {}).get(tree.get("candidate")) or {}
    if not calibration:
        return []
    if not (chosen := calibration.get("cascade")):
        return [f"As a cascade with its teacher: {_text(calibration.get('reason'))}."]
    limit = chosen["threshold"] + chosen["band"]
    promoted = report["decision"]["verdict"] == "promote" and report["decision"].get("mode") == "cascade"
    return [
        f"{'It was promoted as a cascade' if promoted else 'In a cascade with its teacher'}: it answers where its {_text(chosen['score'])} is above {limit:.4g}, and gives "
        f"the other requests to the teacher. The threshold holds for {', '.join(_engine(e) for e in chosen['engines']) or 'no engine'} and these weights only. "
        f"Calibration: {_text(calibration.get('reason'))}."
    ]


def _engine(engine: dict[str, Any]) -> str:
    return f"{_text(engine['name'])} {_text(engine['version'])} in {_text(engine['dtype'])}"


def _confidence(calibration: dict[str, Any]) -> list[str]:
    """How reliable its confidence is, for a person who sets a threshold."""
    low, high = (100 * calibration["by_chance"][end] for end in ("low", "high"))
    verdict = "It is miscalibrated." if calibration["miscalibrated"] else "No miscalibration is shown."
    error = (
        f"The calibration error of its confidence is {100 * calibration['error']:.1f} points; a perfectly calibrated model would show "
        f"{low:.1f} to {high:.1f} on these rows. {verdict}"
    )
    surest = surest_right([Bin(**b) for b in calibration["bins"]], _OFTEN)
    if surest is None:
        return [error, f"For no confidence threshold it is shown that {100 * _OFTEN:.0f} % of the responses are right."]
    right = _score(dataclasses.asdict(share(surest.right, surest.n)))
    return [
        error,
        f"Of the {surest.n} responses with the highest confidence (about {surest.confidence:.2f} or more), {right} % were right: "
        f"it is shown that {100 * _OFTEN:.0f} % or more are right.",
    ]


def _score(score: dict[str, Any] | None) -> str:
    if score is None:
        return "–"
    return f"{100 * score['value']:.1f} ({100 * score['interval']['low']:.1f}–{100 * score['interval']['high']:.1f})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _slug(licence: str) -> str:
    return licence.lower()


def _text(value: object) -> str:
    """Text of the data, escaped so that it cannot become markup."""
    return html.escape(" ".join(str(value).split()), quote=False).replace("|", "\\|").replace("`", "'")
