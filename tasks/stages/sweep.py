"""Stage ``sweep@POINT``: one point of the curve of size against quality, for the report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redistill.data.params import DataParams
from redistill.data.teacher_prompt import NO_PROMPT
from redistill.distillation.arm_params import ArmParams
from redistill.distillation.methods.base import MethodParams
from redistill.distillation.params import FinetuneCommonParams
from redistill.errors import ConfigError
from redistill.io.json import write_json
from redistill.models import checkpoints
from redistill.models.params import StudentParams
from redistill.models.tokenizers import load_tokenizer
from redistill.runtime.cpu import use_threads
from redistill.teacher.params import GenerateParams, TeacherParams
from redistill.teacher.prompt_file import read_prompt
from tasks.locking.locked_teacher import TEACHER
from tasks.paths import ARTIFACTS
from tasks.training import variant

if TYPE_CHECKING:
    from redistill.evaluation.dev_score import DevScore


def sweep(
    arm: str,
    point: str,
    data: DataParams,
    teacher: TeacherParams,
    generate: GenerateParams,
    student_params: StudentParams,
    method: MethodParams,
    common: FinetuneCommonParams,
    arm_params: ArmParams,
) -> None:
    """Write ``artifacts/sweep/POINT.json``: the arm trained at this depth, or the ``teacher`` as it is, scored on the dev split."""
    from redistill.evaluation.dev_score import dev_score

    use_threads(common.threads)
    start, rows = time.monotonic(), variant.dev_rows()
    facts: dict[str, object] = {"point": point, "arm": arm, "rows": len(rows)}
    prompt = read_prompt(TEACHER) if point == "teacher" else NO_PROMPT
    if point == "teacher":
        model, tokenizer = checkpoints.load_model(TEACHER), load_tokenizer(TEACHER)
        facts |= {"layers": int(model.config.num_hidden_layers), "parameters": sum(p.numel() for p in model.parameters())}
    elif point.isdecimal() and int(point) > 0:
        smaller = variant.with_depth(student_params, int(point))
        model, tokenizer, parameters = variant.trained(f"{arm}, {point} layers", smaller, teacher, data, method, common, arm_params)
        facts |= {"layers": int(point), "parameters": parameters, "tokens": common.tokens}
    else:
        raise ConfigError(f"sweep.layers: {point!r} is neither a number of layers nor the word teacher")
    score = dev_score(model, tokenizer, rows, data, generate.max_tokens, teacher_prompt=prompt)
    write_json(ARTIFACTS / "sweep" / f"{point}.json", {**facts, **_measured(score), "seconds": round(time.monotonic() - start, 1)})
    print(f"[sweep] {point}: {score.text} on {len(rows)} dev rows", flush=True)


def _measured(score: DevScore) -> dict[str, float]:
    low, high = score.interval("f1")
    measured = {"exact_match": score.exact_match, "f1": score.f1, "f1_low": low, "f1_high": high}
    return {name: round(value, 4) for name, value in measured.items()}
