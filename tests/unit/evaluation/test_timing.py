"""``redistill.evaluation.timing``: the interval keeps its level whatever the noise, and what two processes measured is not compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from redistill.errors import DataError
from redistill.evaluation.cost import generator
from redistill.evaluation.timing import (
    BATCH_ROWS,
    Times,
    Timing,
    architecture,
    evenly_spaced,
    in_turns,
    median_of,
    ratio,
    timing_from_json,
    timing_to_json,
)
from redistill.models.checkpoints import load_model, save_checkpoint
from redistill.models.tokenizers import load_tokenizer
from redistill.runtime.energy import energy_joules
from tests.tiny import make_tiny_model

DRAWS = 2000
BOUND = 5 * math.sqrt(0.95 * 0.05 / DRAWS)
"""Five standard errors of a share of 95 % over so many draws."""


def noises() -> dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]]:
    return {
        "even": lambda draw, shape: draw.normal(0, 0.05, shape),
        "skewed": lambda draw, shape: draw.exponential(0.2, shape),
        "a request in eight is four times as slow": lambda draw, shape: draw.normal(0, 0.05, shape) + 1.4 * (draw.random(shape) < 0.125),
    }


@pytest.mark.parametrize("noise", noises())
@pytest.mark.parametrize("n", [6, 9, 16, 24])
def test_the_interval_of_a_ratio_covers_the_truth_whatever_the_noise(noise: str, n: int) -> None:
    draw = np.random.default_rng(n)
    student, teacher = (np.exp(noises()[noise](draw, (DRAWS, n))) for _ in range(2))
    covered = sum(
        found.interval.low <= 0.5 <= found.interval.high for s, t in zip(0.5 * student, teacher, strict=True) if (found := ratio(s, t))
    )
    assert covered / DRAWS > 0.95 - BOUND


def test_too_few_values_tell_nothing() -> None:
    assert [median_of([2.0] * n).interval.high for n in (1, 5, 6)] == [math.inf, math.inf, 2.0]
    found = median_of([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    assert (found.value, found.interval.low, found.interval.high) == (5.0, 2.0, 8.0)


def days(truth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds (draws × 16) of a teacher and of a student on a machine whose speed wanders, and of the same student measured in another stage."""
    draw = np.random.default_rng(3)

    def speed() -> np.ndarray:
        """Slower or faster by a third from one stage to the next, and wandering within it."""
        return np.exp(draw.normal(0, 0.3, (DRAWS, 1)) + np.cumsum(draw.normal(0, 0.05, (DRAWS, 16)), axis=1))

    now, then = speed(), speed()
    own = [np.exp(draw.normal(0, 0.05, (DRAWS, 16))) for _ in range(3)]
    return 0.5 * now * own[0], 0.5 * truth * now * own[1], 0.5 * truth * then * own[2]


def test_an_equal_student_is_called_faster_by_medians_of_two_stages_and_not_by_pairs() -> None:
    """What three students of one architecture showed in one demo: 263, 341 and 396 ms."""
    teacher, student, elsewhere = days(1.0)
    by_stage = np.median(elsewhere, axis=1) < np.median(teacher, axis=1)
    by_pairs = [ratio(s, t).interval.high < 1.0 for s, t in zip(student, teacher, strict=True)]
    assert by_stage.mean() > 0.4
    assert np.mean(by_pairs) < 0.025 + 5 * math.sqrt(0.025 * 0.975 / DRAWS)


def test_a_student_that_takes_nine_tenths_is_nearly_always_shown_to_be_faster() -> None:
    teacher, student, _ = days(0.9)
    assert np.mean([ratio(s, t).interval.high < 1.0 for s, t in zip(student, teacher, strict=True)]) > 0.9


def test_requests_are_run_in_turns_and_nobody_always_begins() -> None:
    ran: list[tuple[str, int]] = []
    told = []
    runs = {name: lambda row, name=name: ran.append((name, row)) for name in ("teacher", "student", "linear")}
    seconds, joules = in_turns(runs, [7, 8, 9, 10], lambda: told.append(len(ran)))
    assert ran[:3] == [("teacher", 7), ("student", 7), ("linear", 7)], "once before, untimed"
    rounds = [ran[i : i + 3] for i in range(3, 15, 3)]
    assert [[row for _, row in r] for r in rounds] == [[7] * 3, [8] * 3, [9] * 3, [10] * 3]
    assert [r[0][0] for r in rounds] == ["teacher", "student", "linear", "teacher"] and all(len(dict(r)) == 3 for r in rounds)
    assert told == [6, 9, 12, 15] and {name: len(s) for name, s in seconds.items()} == dict.fromkeys(runs, 4)
    assert all(s > 0 for own in seconds.values() for s in own)
    assert (energy_joules() is None) == (joules["teacher"] is None)


def test_real_models_are_told_apart_and_write_the_same_number_of_tokens(tmp_path: Path) -> None:
    """Twelve layers against one: whatever else runs here, the whole interval lies below 1."""
    wrote: dict[str, list[int]] = {}
    runs = {}
    for name, layers in (("teacher", 12), ("student", 1)):
        folder = make_tiny_model(tmp_path / name, layers=layers)
        count, wrote[name] = generator(load_model(folder), load_tokenizer(folder), 8), []
        runs[name] = lambda prompts, count=count, name=name: wrote[name].append(count(prompts))
    seconds, _ = in_turns(runs, [[f"message {i}\n=>"] for i in range(9)])
    assert wrote["student"] == wrote["teacher"] == [8] * 10
    found = ratio(seconds["student"], seconds["teacher"])
    assert 0 < found.interval.low <= found.value <= found.interval.high < 1


def test_rows_are_evenly_spaced_and_come_again_where_there_are_few() -> None:
    assert evenly_spaced(4, 10) == [0, 2, 5, 7] and evenly_spaced(3, 3) == [0, 1, 2]
    assert evenly_spaced(7, 3) == [0, 1, 2, 0, 1, 2, 0]


def test_an_architecture_is_what_time_depends_on(tmp_path: Path) -> None:
    one, other, deeper = (
        make_tiny_model(tmp_path / name, seed=seed, layers=layers) for name, seed, layers in (("a", 1, 2), ("b", 2, 2), ("c", 1, 3))
    )
    assert architecture(one) == architecture(other) != architecture(deeper)
    save_checkpoint(load_model(one), load_tokenizer(one), tmp_path / "saved")
    assert architecture(tmp_path / "saved") == architecture(one), "another type on disk, another version that saved it"
    config = json.loads((one / "config.json").read_text(encoding="utf-8"))
    (one / "config.json").write_text(json.dumps({**config, "use_cache": False}), encoding="utf-8")
    assert architecture(one) == architecture(other), "the Trainer switches it off in what it saves"


def timing() -> Timing:
    student = Times("s", 10, (0.2, 0.21, 0.19, 0.2, 0.2, 0.2), (1.0,) * 9, 0.5)
    return Timing("hf", student, Times("t", 20, (0.4,) * 6, (4.0,) * 9), Times("linear", 5, (0.001,) * 6, (0.01,) * 9))


def test_a_timing_survives_its_file_and_tells_the_ratios_to_who_reads_it() -> None:
    tree = json.loads(json.dumps(timing_to_json(timing())))
    assert timing_from_json(tree) == timing()
    assert tree["ratio"]["request"] == {"value": 0.5, "interval": {"low": pytest.approx(0.475), "high": pytest.approx(0.525)}}
    assert tree["ratio"]["batch"]["value"] == 0.25


def test_pace_and_shown_times_by_hand() -> None:
    found = timing()
    assert found.teacher.pace is not None and found.teacher.pace.value == pytest.approx(4.0 / (BATCH_ROWS * 20))
    assert found.student_pace.value == pytest.approx(1.0 / (BATCH_ROWS * 10)), (
        "the teacher's batch times the ratio, by the student's own tokens"
    )
    assert found.student.shown() == {
        "latency_p50_s": pytest.approx(0.2), "latency_p95_s": 0.21, "batch_p50_s": 1.0, "tokens_per_s": pytest.approx(160.0), "joules_per_token": 0.5,
    }  # fmt: skip
    assert found.of("kd") is found.of("base") is found.student and found.of("teacher") is found.teacher
    endpoint = replace(found, teacher=Times("e", None, (0.4,) * 6))
    assert endpoint.batch_ratio is None and endpoint.teacher.pace is None and endpoint.student_pace == found.student.pace


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_what_is_no_time_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="is not a valid time|there are no times"):
        Times("a", 1, (1.0, bad))
    with pytest.raises(DataError, match="different requests"):
        Timing("hf", Times("a", 1, (1.0,)), Times("b", 1, (1.0, 1.0)))


def test_energy_is_that_of_whole_processors_or_absent(tmp_path: Path) -> None:
    """Laid out as the kernel does: a zone within a processor's is part of it already."""
    assert energy_joules(tmp_path) is None
    for zone, microjoules in (("intel-rapl:0", "1500000"), ("intel-rapl:1", "250000"), ("intel-rapl:0:0", "900000")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(f"{microjoules}\n", encoding="ascii")
    assert energy_joules(tmp_path) == pytest.approx(1.75)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("", encoding="ascii")
    assert energy_joules(tmp_path) is None, "what cannot be read is not guessed"
