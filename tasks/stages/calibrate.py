"""Stage ``calibrate@ARM``: how sure an arm is of its completions of the calibration rows, and the threshold above which it may answer.

The student completes the rows as in a benchmark: greedily, with the same engine, template and batches. The teacher's completions are those that the stage
``generate`` got.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redistill.data.grammars.types import spelled
from redistill.data.params import DataParams
from redistill.data.templates import render, template_digest
from redistill.data.types import Prompt
from redistill.errors import DataError
from redistill.evaluation.lm_eval import respond, weights_model
from redistill.evaluation.outcomes import objection
from redistill.evaluation.params import BenchmarkParams
from redistill.evaluation.row_scores import chrf_scores
from redistill.evaluation.types import Confidence, Objection
from redistill.io.atomic import replacing_directory
from redistill.io.digests import canonical_digest
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records, write_records
from redistill.models import checkpoints, weights_source
from redistill.models.tokenizers import load_tokenizer
from redistill.promotion.thresholds.choose import calibrated
from redistill.promotion.thresholds.saved import calibration_to_json
from redistill.promotion.thresholds.types import CalibrationRow, Limits
from redistill.runtime.cpu import use_threads
from redistill.runtime.precision import dtype_name, resolved
from redistill.runtime.progress import Progress, continues
from redistill.serving.engines import engines
from redistill.teacher.endings import WITHOUT_COMPLETION
from redistill.teacher.types import TeacherCompletion
from tasks.locking.locked_code import locked_code
from tasks.paths import ARTIFACTS, SOURCES, STATE
from tasks.results.memos import remember, remembered
from tasks.stages.benchmark import loaded

CALIBRATION = ARTIFACTS / "calibration"


@dataclass(frozen=True, slots=True)
class Answered:
    """What the student wrote to one calibration prompt, and how sure it was."""

    prompt_id: str
    response: str
    confidences: tuple[Confidence, ...]
    objection: Objection = ""


def calibrate(arm: str, data: DataParams, benchmark: BenchmarkParams) -> None:
    """Write ``artifacts/calibration/ARM``: the rows, and the calibration with its cascade or the reason why there is none.

    Raises:
        DataError: a calibration row is a row that trains.
    """
    checkpoint = weights_source.checked_directory(ARTIFACTS / "students" / arm)
    prompts = read_records(ARTIFACTS / "prompts" / "calibration.parquet", Prompt)
    _check_apart(prompts)
    teacher = {
        c.prompt_id: c.text
        for c in read_records(ARTIFACTS / "completions" / "completions.parquet", TeacherCompletion)
        if c.sample_index == 0 and c.finish_reason not in WITHOUT_COMPLETION
    }
    answered = _answered(arm, checkpoint, [p for p in prompts if p.id in teacher], data, benchmark)
    by_id = {p.id: p for p in prompts}
    pairs = [(spelled(data.grammar, teacher[a.prompt_id]), spelled(data.grammar, a.response)) for a in answered]
    losses = _disagreements(pairs, free_text=data.grammar is None)
    rows = [
        CalibrationRow(
            a.prompt_id,
            by_id[a.prompt_id].slice,
            by_id[a.prompt_id].label,
            a.response,
            teacher[a.prompt_id],
            loss,
            a.confidences,
            a.objection,
        )
        for a, loss in zip(answered, losses, strict=True)
    ]
    template = template_digest(data, load_tokenizer(checkpoint))
    result = calibrated(
        arm,
        rows,
        Limits(**read_json(SOURCES)["route"]),
        model_digest=checkpoints.model_digest(checkpoint),
        template_digest=template,
        engines=engines(dtype_name()),
    )
    with replacing_directory(CALIBRATION / arm) as folder:
        write_records(folder / "rows.parquet", CalibrationRow, rows)
        write_json(folder / "calibration.json", calibration_to_json(result))
    print(f"[calibrate@{arm}] {result.reason}", flush=True)


def _check_apart(prompts: list[Prompt]) -> None:
    """The training rows' prompts are no calibration prompts, whatever wrote the files."""
    ids = {p.id for p in prompts}
    for split in ("train", "pool"):
        shared = [p for p in read_records(ARTIFACTS / "prompts" / f"{split}.parquet", Prompt) if p.id in ids]
        if shared:
            raise DataError(
                f"{len(shared)} calibration rows are also in the split {split}, which trains, such as {shared[0].source_id}; a student is surer of rows "
                "that trained it, so the threshold would be wrong; run the stage `prepare` again"
            )


def _answered(arm: str, checkpoint: Path, prompts: list[Prompt], data: DataParams, params: BenchmarkParams) -> list[Answered]:
    """The student's completions; what was measured for these weights and rows is remembered, because thresholds change more often than they do."""
    if not prompts:
        return []
    key_parts = [sorted(p.id for p in prompts), str(data), str(params), locked_code("calibrate"), resolved()]
    key = canonical_digest([checkpoints.model_digest(checkpoint), key_parts])
    memo = STATE / "evaluations" / f"calibration-{key[:32]}.parquet"
    if remembered(memo):
        continues(f"calibrate@{arm}", "the completions of these weights are stored")
        return read_records(memo, Answered)
    use_threads(params.threads)
    model, tokenizer = loaded(checkpoint)
    progress = Progress(f"calibrate@{arm}", 1, "parts")
    lm = weights_model(model, tokenizer, params, data)
    rendered = [render(p, data, tokenizer) for p in prompts]
    responses = respond(lm, rendered, data.stops, params)
    sure = [lm.sure_of(text) for text in rendered]
    # A prompt that is longer than the student reads has no confidence. In production it is out of scope, so it says nothing about the threshold.
    rows = [
        Answered(p.id, response, s.confidences, objection(data.grammar, response, p.text, cut_off=s.cut_off)[0])
        for p, s, response in zip(prompts, sure, responses, strict=True)
        if s is not None
    ]
    progress(1)
    write_records(memo, Answered, rows)
    remember(memo)
    return rows


def _disagreements(pairs: list[tuple[str, str]], *, free_text: bool) -> list[float]:
    """0 where both wrote the same, else 1; of free text 1 - chrF of the student's text against the teacher's."""
    if free_text:
        return [1.0 - score for score in chrf_scores(pairs)]
    return [float(teacher != student) for teacher, student in pairs]
