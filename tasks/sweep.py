"""Stage ``sweep``: the promoted arm at other depths, for the curve of size against quality. Runs only where ``sweep.layers`` lists some."""

from __future__ import annotations

import time
from dataclasses import replace

from redistill import checkpoints
from redistill.artifacts import replacing_directory, write_json
from redistill.config import (
    ArmParams,
    DataParams,
    FinetuneCommonParams,
    GenerateParams,
    MethodParams,
    StudentParams,
    SweepParams,
    TeacherParams,
)
from redistill.records import Prompt
from tasks import trial
from tasks.edge import ARTIFACTS, run
from tasks.locked import TEACHER


def sweep(
    arm: str,
    data: DataParams,
    teacher: TeacherParams,
    generate: GenerateParams,
    student_params: StudentParams,
    method: MethodParams,
    common: FinetuneCommonParams,
    arm_params: ArmParams,
    sweep: SweepParams,
) -> None:
    """Write ``artifacts/sweep/curve.json``: a point a depth, and the teacher's own, all on the dev split."""
    from redistill.dev_score import dev_score

    rows: list[Prompt] = trial.dev_rows() if sweep.layers else []
    points: list[dict[str, object]] = []
    shared = replace(common, tokens=sweep.tokens or common.tokens)
    for layers in sorted(set(sweep.layers), reverse=True):
        start = time.monotonic()
        smaller = trial.with_depth(student_params, layers)
        model, tokenizer, parameters = trial.trained(f"{arm}, {layers} layers", smaller, teacher, data, method, shared, arm_params)
        points.append({"layers": layers, **_point(dev_score(model, tokenizer, rows, data, generate.max_tokens), parameters)})
        points[-1]["seconds"] = round(time.monotonic() - start, 1)
        print(
            f"[sweep] {layers} layers, {parameters / 1e6:.1f} M parameters: F1 {points[-1]['f1']:.3f} on {len(rows)} dev rows", flush=True
        )
    reference = None
    if points and (TEACHER / "config.json").is_file():
        model = checkpoints.load_model(TEACHER)
        found = dev_score(model, checkpoints.load_tokenizer(TEACHER), rows, data, generate.max_tokens)
        reference = {"layers": int(model.config.num_hidden_layers), **_point(found, sum(p.numel() for p in model.parameters()))}
    with replacing_directory(ARTIFACTS / "sweep") as folder:
        write_json(folder / "curve.json", {"arm": arm, "n": len(rows), "tokens": shared.tokens, "points": points, "teacher": reference})


def _point(found: object, parameters: int) -> dict[str, object]:
    from redistill.dev_score import DevScore

    assert isinstance(found, DevScore)
    low, high = found.interval()
    return {
        "parameters": parameters,
        "exact_match": round(found.exact_match, 4),
        "f1": round(found.f1, 4),
        "f1_low": round(low, 4),
        "f1_high": round(high, 4),
    }


if __name__ == "__main__":
    run(sweep, "arm")
