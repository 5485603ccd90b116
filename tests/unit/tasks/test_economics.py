"""``redistill estimate`` from the sources alone, before anything has run; and what is remembered of what has."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from redistill.cli import estimate
from redistill.errors import ConfigError
from redistill.evaluation.summary import report_to_json
from redistill.evaluation.timing import Times, Timing, timing_to_json
from redistill.evaluation.types import Cost, EvalReport
from redistill.io.json import read_json, write_json
from redistill.io.parquet import write_records
from redistill.operations.cycle_summary import CycleSummary
from redistill.operations.types import StageReceipt
from redistill.params import Params, load_params
from redistill.statistics.shares import share
from redistill.teacher.types import TeacherCompletion
from tasks.reporting import economics
from tasks.running.cycle_stages import every_stage
from tests.tiny_project import make_tiny_project, write_params


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_tiny_project(tmp_path / "p", economics={"machine_usd_per_hour": 2.0})
    monkeypatch.chdir(made)
    return made


def test_a_first_cycle_is_estimated_from_its_sources(project: Path) -> None:
    found = economics.estimate(load_params())
    assert found["rows_to_ask"] > 100 and found["teacher_completion_tokens"] == 16 * found["rows_to_ask"]
    assert found["hours"] == pytest.approx(sum(found["seconds"].values()) / 3600, abs=1e-3) and found["measured"] == []
    assert found["usd"] == pytest.approx(2.0 * sum(found["seconds"].values()) / 3600, rel=1e-3)
    assert found["disk_bytes"] > 100_000 and found["break_even"] is None and "benchmarked" in found["why_no_break_even"]
    assert not Path(".redistill/mlflow").exists(), "an estimate makes no store"


def test_every_stage_of_the_cycle_is_counted_and_no_other(project: Path) -> None:
    """``linear`` was counted for generation, which has none; the sweep over depths was not counted."""
    write_params(project, sweep__layers=["teacher", 1])
    stages = set(economics.estimate(load_params())["seconds"])
    assert stages == set(every_stage(load_params())) >= {"sweep@teacher", "sweep@1", "benchmark@linear", "timing"}
    write_params(project, data__task="generation", data__record=None, promote__gates=["teacher"])
    stages = set(economics.estimate(load_params())["seconds"])
    assert stages == set(every_stage(load_params())) and "benchmark@linear" not in stages


def test_the_last_complete_run_is_what_a_stage_takes(project: Path) -> None:
    generate = StageReceipt("generate", "ran", {}, 7.0)
    receipts = [generate, StageReceipt("score", "unchanged", {}, 0.1)]
    assert economics.remember(receipts) == {"generate": 7.0}
    found = economics.estimate(load_params())
    assert found["measured"] == ["generate"] and found["seconds"]["generate"] == 7.0
    write_json(economics.SECONDS, {**read_json(economics.SECONDS), "score": 3.0})
    assert economics.remember(receipts) == {"generate": 7.0, "score": 3.0}, "what did nothing tonight still costs when it runs"
    beside = StageReceipt("validate", "ran", {}, 5.0, machine_s=2.5)
    assert economics.remember([beside]) == {"validate": 2.5}, "its part of the machine's time, where another ran beside it"
    assert economics.remember([StageReceipt("score", "ran", {}, 2.0)]) == {"score": 2.0}, "after a speed-up, or with a smaller setting"
    assert economics.remember([StageReceipt("score", "ran", {}, 0.5, whole=False)]) == {"score": 2.0}, (
        "it used what an earlier run had left"
    )
    assert economics.remember([StageReceipt("finetune@kd", "ran", {}, 4.0, whole=False)]) == {}, (
        "a first run that was resumed says too little"
    )
    assert economics.remember([StageReceipt("generate", "restored", {}, 0.2)]) == {"generate": 7.0}


def test_without_a_price_no_money_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_tiny_project(tmp_path / "p"))
    found = economics.estimate(load_params())
    assert found["usd"] is None and "machine_usd_per_hour is not set" in found["why_no_break_even"]


@pytest.fixture
def benchmarked(project: Path) -> Params:
    """Reports, completions and a timing as a cycle leaves them: the student takes a quarter of the teacher's time."""
    score = share(9, 10)
    for who in ("teacher", "kd"):
        report = EvalReport(who, who, "h", "t", 10, score, score, {}, {}, Cost(1, 1, 1, 10.0, 20.0), 0, "hf")
        write_json(Path(f"artifacts/benchmark/{who}/report.json"), report_to_json(report))
    completion = TeacherCompletion("p", 0, "fee", None, (1, 2, 3), "stop", "t")
    Path("artifacts/completions").mkdir(parents=True)
    write_records(Path("artifacts/completions/completions.parquet"), TeacherCompletion, [completion])
    times = {"student": Times("", 10, (0.05,) * 8, (1.0,) * 9), "teacher": Times("t", 10, (0.2,) * 8, (3.8, 4.0, 4.2) * 3)}
    write_json(economics.TIMING, timing_to_json(Timing("hf", **times)))
    return load_params()


def past_cycle(ran: int, seconds: float) -> CycleSummary:
    return CycleSummary("bank-1", dt.datetime.now(dt.UTC), "completed", ran, seconds)


def of_report(params: Params, receipts: list[StageReceipt], past: list[CycleSummary]) -> dict[str, object]:
    from redistill.evaluation.timing import timing_from_json

    reports = {who: report for who in ("teacher", "kd") if (report := economics.benchmark_report(who)) is not None}
    return economics.economics(params, receipts, reports, timing_from_json(read_json(economics.TIMING)), past)


def test_a_month_has_whole_cycles_for_changes_and_quiet_nights_at_their_cost(benchmarked: Params) -> None:
    """2 USD an hour: a cycle of 3,600 s costs 2 USD, a night of 36 s 0.02 USD."""
    stages = every_stage(benchmarked)
    ran = [StageReceipt(stage, "ran", {}, 3600 / len(stages)) for stage in stages]
    quiet = [StageReceipt(stage, "unchanged", {}, 0.0) for stage in stages]
    past = [past_cycle(13, 3000.0), past_cycle(0, 30.0), past_cycle(0, 36.0), past_cycle(0, 300.0)]
    month = of_report(benchmarked, ran, past)["month"]
    assert month == {"changes": 2, "quiet_nights": 28, "cycle_usd": pytest.approx(2.0, rel=1e-3), "quiet_usd": pytest.approx(0.02)}
    found = of_report(benchmarked, quiet, past)
    assert found["month"] == {**month, "changes": 1, "quiet_nights": 29}
    pays = found["break_even"]
    assert isinstance(pays, dict) and pays["month_usd"] == pytest.approx(2.0 + 29 * 0.02, rel=1e-3)
    low, high = (pays["saving_usd_per_month_interval"][end] for end in ("low", "high"))
    assert low < pays["saving_usd_per_month"] < high, "the ratio of a full batch lies between 1/4.2 and 1/3.8"
    fewest, most = pays["requests_per_month_interval"]
    assert fewest < pays["requests_per_month"] < most
    estimated = economics.estimate(benchmarked)
    assert estimated["month"]["changes"] == 1 and estimated["break_even"]["verdict"] in ("worth it", "not worth it", "unclear")


def test_changes_may_be_said_by_a_person(project: Path, benchmarked: Params) -> None:
    write_params(project, economics={"machine_usd_per_hour": 2.0, "changes_per_month": 4})
    stages = [StageReceipt(stage, "ran", {}, 10.0) for stage in every_stage(benchmarked)]
    month = of_report(load_params(), stages, [past_cycle(5, 10.0)] * 9)["month"]
    assert isinstance(month, dict) and (month["changes"], month["quiet_nights"]) == (4, 26)


def test_a_cycle_whose_stages_were_never_seen_whole_has_no_cost_and_says_which(benchmarked: Params) -> None:
    receipts = [StageReceipt(stage, "ran", {}, 10.0, whole=stage != "finetune@kd") for stage in every_stage(benchmarked)]
    found = of_report(benchmarked, receipts, [])
    cycle = found["cycle"]
    assert isinstance(cycle, dict) and cycle["unmeasured"] == ["finetune@kd"]
    assert cycle["seconds_whole"] is None and found["break_even"] is None and found["month"] is None


def test_the_command_says_what_a_month_costs_and_with_what_certainty_it_pays(
    project: Path, benchmarked: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(economics.SECONDS, dict.fromkeys(every_stage(benchmarked), 100.0))
    for requests, verdict in ((1000, "not worth it"), (100_000_000, "worth it")):
        write_params(project, economics={"machine_usd_per_hour": 2.0, "requests_per_month": requests})
        estimate.estimate(None, 1)
        month, pays = capsys.readouterr().out.splitlines()[-2:]
        assert month.startswith("month     whole cycles 1, nights without a change 29: ")
        assert pays.endswith(f": {verdict}") and f"at the {requests:,} of params.yaml" in pays
        assert re.search(r"from [\d,]+ requests a month \([\d,]+ to [\d,]+\)", pays) and " USD a month (" in pays


def test_tokens_that_only_the_teacher_reads_have_a_price(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = economics.estimate(load_params())
    assert (before["teacher_only_tokens"], before["teacher_only_usd_per_month"]) == (0, None)
    estimate.estimate(None, 1)
    assert "only the teacher reads" not in capsys.readouterr().out
    endpoint = {"teacher__backend": "openai", "tune_teacher__method": "off", "generate__top_k": 5, "student__model": "teacher"}
    shown = {"teacher__prompt": {"system": "x" * 400}, "finetune__common__supervise": "completion"}
    write_params(project, **endpoint, **shown, teacher__usd_per_million_prompt_tokens=2.0, economics={"requests_per_month": 1_000_000})
    found = economics.estimate(load_params())
    assert found["teacher_only_tokens"] == 100 and found["teacher_only_usd_per_month"] == pytest.approx(100 * 1e6 * 2.0 / 1e6)
    assert found["teacher_prompt_tokens"] == before["teacher_prompt_tokens"] + 100 * found["rows_to_ask"]
    estimate.estimate(None, 1)
    line = "prompt    about 100 tokens a request that only the teacher reads; at 1,000,000 requests a month 100,000,000: 200.00 USD"
    assert line in capsys.readouterr().out.splitlines()
    write_params(project, **{**shown, "teacher__prompt": {"examples": 4}})
    assert economics.estimate(load_params())["teacher_only_tokens"] > 40
    estimate.estimate(None, 1)
    assert "paid with the teacher's time, which the stage timing measures" in capsys.readouterr().out


def test_the_raw_teacher_with_examples_is_a_stage_where_dvc_yaml_has_its_line(project: Path) -> None:
    assert "benchmark@prompted" not in every_stage(load_params())
    write_params(project, benchmark__few_shot=4)
    with pytest.raises(
        ConfigError,
        match=r"^benchmark.few_shot=4 needs the line of the arm `prompted` under stages.benchmark.foreach in dvc.yaml: prompted: \{",
    ):
        every_stage(load_params())
    file = project / "dvc.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("# prompted:", "prompted:"), encoding="utf-8")
    assert "benchmark@prompted" in every_stage(load_params())
