"""The monitor of live traffic on real logs, shards and a real registry: calm, then drifted prompts: a warning, the flag falls, and a cycle is asked for once."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from redistill.data.types import Message, Prompt
from redistill.serving.drift.params import DriftParams
from tests.box import wait_for
from tests.integration.conftest import N, Registry
from tests.tiny_project import ROOT

DRIFT = DriftParams(min_rows=40, of_windows=3, warn_after=2, act_after=2, calm_after=2)
HOUR_S = 3600.0
NEW_TOPIC = "And how do I open a savings pot for my daughter?"
BANK = [
    json.loads(line)
    for name in ("heldout", "labelled")
    for line in (ROOT / f"data/bank_triage/{name}.jsonl").read_text("utf-8").splitlines()
]
TEXTS = list(dict.fromkeys(row["text"] for row in BANK))
REFERENCE, REST = TEXTS[:N], TEXTS[N:]


@dataclass
class Traffic:
    """Writes what the router writes, one window an hour, from the moment at which the version went live."""

    registry: Registry
    version: str
    begin: float
    hour: int = 0
    draw: random.Random = field(default_factory=lambda: random.Random(4))

    def send(self, change: Callable[[str], str] = str, n: int = 90, **off: bool) -> float:
        """One window of requests; returns the end of its hour. ``decisions``, ``texts`` and ``comparisons`` may be switched off."""
        from redistill.data.traffic.types import LoggedRequest
        from redistill.io.parquet import write_records
        from tasks.paths import COMPARISONS, DECISIONS, TRAFFIC

        start, self.hour = self.begin + self.hour * HOUR_S, self.hour + 1
        rows, decisions, comparisons = [], [], []
        for i, text in enumerate(self.draw.sample(REST, n)):
            # As on the reference rows: half of what the student writes breaks the grammar, and what does not has a score from 0.5 to 1.
            at, usable, score = start + 10 + i, i % 2 == 0, 0.5 + self.draw.random() / 2
            decisions.append(decision(f"{self.hour}-{i}", at, self.version, score if usable else None, "sure" if usable else "malformed"))
            messages, reply = (Message("user", change(text)),), "card" if usable else "y"
            prompt = Prompt.of(messages, "", "app", None, "")
            rows.append(
                LoggedRequest(f"{self.hour}-{i}", at, prompt.id, messages, (), "app", "cascade", "student", "sure", self.version, score, reply, None, 0, "router", "", "")
            )  # fmt: skip
            comparisons.append({"id": "x", "at": at, "version": self.version, "by_student": usable, "disagreement": float(i % 5 == 0)})
        append(DECISIONS, [] if off.get("decisions") is False else decisions)
        append(COMPARISONS, [] if off.get("comparisons") is False else comparisons)
        if off.get("texts") is not False:
            file = TRAFFIC / f"{int(start * 1000):015d}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_records(file, LoggedRequest, rows)
            os.utime(file, (start + 200, start + 200))
        return start + HOUR_S

    def monitored(self, change: Callable[[str], str] = str, **off: bool) -> Any:
        from tasks.serving.monitor import monitor_traffic

        return monitor_traffic(self.registry.params, self.send(change, **off))

    def respond(self) -> list[str]:
        from redistill.operations.workspace import Workspace
        from tasks.orchestration import traffic_alarm
        from tasks.serving.drift_state import read_state

        state = read_state()
        assert state is not None
        return traffic_alarm.respond(self.registry.params, Workspace.here(self.registry.params.data.name), state)


def decision(name: str, at: float, version: str, score: float | None, reason: str) -> dict[str, Any]:
    route = "student" if reason == "sure" else "teacher"
    return {
        "id": name,
        "at": at,
        "mode": "cascade",
        "route": route,
        "reason": reason,
        "version": version,
        "score": score,
        "slice": "app",
        "failures": [],
    }


def append(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8") as handle:
        handle.write("".join(json.dumps(line) + "\n" for line in lines))


def drifted(text: str) -> str:
    return f"{text} {NEW_TOPIC}"


@pytest.fixture
def traffic(make_registry: Callable[..., Registry], prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """A cascade that is live, and no traffic yet."""
    from redistill.distillation.types import TrainingRow
    from redistill.io.parquet import write_records
    from redistill.serving.route_flag import read_route
    from tasks.orchestration import pending
    from tasks.paths import STATE
    from tasks.promotion import approve
    from tasks.registry import transitions
    from tasks.results.rows import HELDOUT

    prompts = [Prompt.of((Message("user", text),), str(n), "app", "card", "x") for n, text in enumerate(REFERENCE)]
    registry = make_registry(gates=["audit", "teacher"])
    for folder in ("serving", "traffic"):
        shutil.rmtree(STATE / folder, ignore_errors=True)
    pending.take()
    HELDOUT.parent.mkdir(parents=True, exist_ok=True)
    for split in ("train", "pool"):
        write_records(HELDOUT.parent / f"{split}.parquet", Prompt, [])
    write_records(Path("artifacts/validated/kept.parquet"), TrainingRow, [])
    write_records(HELDOUT, Prompt, prompts)
    registry.rows, registry.label = tuple(p.id for p in prompts), "card"
    version = registry.version(100, seed=31, threshold=0.5)
    approve.promote(registry.params, version, "passed")
    # One of ten comparisons disagrees: not shown to be more than was promised, nor less.
    registry.params = replace(registry.params, drift=DRIFT, route=replace(registry.params.route, max_disagreement=0.15))
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    begin = time.time()
    assert read_route(transitions.FLAGS).answers == "cascade"
    return Traffic(registry, version, begin)


def test_drift_warns_then_the_route_falls_and_a_cycle_is_asked_for_once(traffic: Traffic) -> None:
    from redistill.serving.route_flag import read_route
    from tasks.orchestration import pending
    from tasks.registry import transitions

    for _ in range(2):
        seen = traffic.monitored()
        assert seen.window is not None and seen.state.verdict == "calm" and not seen.window.raised, seen.sentence
        assert traffic.respond() == []
    assert seen.window.judged >= {"prompts", "length", "scores", "disagreement", "failed", "deferred"}
    assert traffic.monitored(drifted).state.verdict == "calm", "one window decides nothing"
    warned = traffic.monitored(drifted)
    assert warned.state.verdict == "warn" and "prompts" in warned.window.large
    assert traffic.respond() == ["event redistill.traffic.drift.warned"] and traffic.respond() == []
    assert read_route(transitions.FLAGS).answers == "cascade" and pending.waiting() == []
    acted = traffic.monitored(drifted)
    assert acted.state.verdict == "act" and acted.window.at_risk
    page = Path("artifacts/traffic/report.html").read_text(encoding="utf-8")
    assert "savings pot" not in page and ">Act<" in page and page.count("<svg") == 4
    done = traffic.respond()
    assert done[0] == "the teacher answers now" and "a cycle is asked for" in done[2] and "set traffic.log" in done[2]
    assert read_route(transitions.FLAGS).answers == "teacher"
    last = transitions.history(traffic.registry.client, traffic.registry.params)[-1]
    assert (last.kind, last.version) == ("alarm", traffic.version) and "live traffic has drifted: prompts" in last.reason
    [reason] = pending.waiting()
    assert reason.startswith("live traffic has drifted: prompts")
    assert traffic.monitored(drifted).state.verdict == "act" and traffic.respond() == [], "each thing is done once"
    assert pending.waiting() == [reason]
    assert traffic.monitored().state.verdict == "act", "back only after several calm windows"
    assert traffic.monitored().state.verdict == "calm" and "the warning is over" in traffic.respond()[0]


def test_the_events_reach_prefect(traffic: Traffic, prefect_api: str) -> None:
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    for _ in range(2):
        traffic.monitored(drifted)
    # Prefect reads its environment when it is imported, which another file's tests may have done.
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        assert traffic.respond() == ["event redistill.traffic.drift.warned"]
        EventsWorker.drain_all()
    drifts = {"filter": {"event": {"name": ["redistill.traffic.drift.warned"]}}}
    events: list[dict[str, Any]] = []

    def arrived() -> bool:
        events.extend(httpx.post(f"{prefect_api}/events/filter", json=drifts, timeout=10).json()["events"])
        return bool(events)

    wait_for(arrived)
    assert events[0]["payload"]["version"] == traffic.version


def test_a_pin_is_not_touched_and_the_cycle_is_still_asked_for(traffic: Traffic) -> None:
    from redistill.serving.route_flag import read_route, update_route, with_pin
    from tasks.orchestration import pending
    from tasks.registry import transitions

    update_route(transitions.FLAGS, lambda now: with_pin(now, "student", "trial"))
    before = read_route(transitions.FLAGS)
    for _ in range(3):
        seen = traffic.monitored(drifted)
    assert seen.state.verdict == "act"
    done = traffic.respond()
    assert "the student is pinned" in done[0] and read_route(transitions.FLAGS) == before and len(pending.waiting()) == 1


def test_drift_during_a_rollout_sends_both_versions_keys_to_the_teacher(traffic: Traffic) -> None:
    from redistill.serving.route_flag import read_route, update_route
    from redistill.serving.types import Rollout
    from tasks.registry import transitions

    rollout = Rollout("0", None, 0.3, "2026-11-28T02:00:00+00:00")
    update_route(transitions.FLAGS, lambda now: replace(now, rollout=rollout))
    for _ in range(3):
        seen = traffic.monitored(drifted)
    assert seen.state.verdict == "act"
    assert traffic.respond()[0] == "the teacher answers now"
    route = read_route(transitions.FLAGS)
    assert (route.mode, route.rollout) == ("teacher", None)
    last = transitions.history(traffic.registry.client, traffic.registry.params)[-1]
    assert (last.kind, last.version) == ("alarm", traffic.version)


def test_traffic_that_was_given_back_is_protected_again(traffic: Traffic) -> None:
    from redistill.serving.route_flag import read_route, update_route
    from tasks.orchestration import pending
    from tasks.registry import transitions

    before = read_route(transitions.FLAGS)
    for _ in range(3):
        traffic.monitored(drifted)
    assert "the teacher answers now" in traffic.respond() and read_route(transitions.FLAGS).mode == "teacher"
    fallen = traffic.monitored(drifted)
    assert fallen.state.fell_at == read_route(transitions.FLAGS).changed_at and len(fallen.state.windows) == 4
    pending.take()
    given_back = dt.datetime.fromtimestamp(traffic.begin + traffic.hour * HOUR_S, dt.UTC).isoformat()
    update_route(transitions.FLAGS, lambda now: replace(before, changed_at=given_back))
    first = traffic.monitored(drifted)
    assert (first.state.verdict, len(first.state.windows)) == ("calm", 1), "the first window is counted again"
    for _ in range(2):
        again = traffic.monitored(drifted)
    assert again.state.verdict == "act"
    assert "the teacher answers now" in traffic.respond() and read_route(transitions.FLAGS).mode == "teacher"
    assert len(pending.waiting()) == 1


def test_a_window_that_was_judged_while_the_response_waited_is_kept(traffic: Traffic) -> None:
    from redistill.operations.workspace import Workspace
    from tasks.orchestration import traffic_alarm
    from tasks.serving.drift_state import one_monitor, read_state, write_state

    stale = traffic.monitored(drifted).state
    newer = traffic.monitored(drifted).state
    assert newer.verdict == "warn"
    workspace, done = Workspace.here(traffic.registry.params.data.name), list[str]()
    run = threading.Thread(target=lambda: done.extend(traffic_alarm.respond(traffic.registry.params, workspace, stale)))
    with one_monitor():
        run.start()
        write_state(newer)
    run.join(60.0)
    state = read_state()
    assert done == ["event redistill.traffic.drift.warned"], "what is true now is announced"
    assert state is not None and state.windows == newer.windows and state.announced == "warn"


def test_comparisons_that_show_the_promise_is_kept_keep_the_traffic(traffic: Traffic) -> None:
    from redistill.serving.route_flag import read_route
    from tasks.orchestration import pending
    from tasks.registry import transitions

    traffic.registry.params = replace(traffic.registry.params, route=replace(traffic.registry.params.route, max_disagreement=0.5))
    for _ in range(3):
        seen = traffic.monitored(drifted)
    assert seen.state.verdict == "act" and not seen.window.at_risk
    assert [line.split(";")[0].split(" (")[0] for line in traffic.respond()] == [
        "event redistill.traffic.drift.acted",
        "a cycle is asked for",
    ]
    assert read_route(transitions.FLAGS).answers == "cascade" and len(pending.waiting()) == 1


def test_a_run_that_was_killed_before_it_acted_is_made_good(traffic: Traffic) -> None:
    from redistill.serving.route_flag import read_route
    from tasks.registry import transitions

    for _ in range(3):
        traffic.monitored(drifted)
    traffic.monitored(drifted)
    assert read_route(transitions.FLAGS).answers == "cascade"
    assert "the teacher answers now" in traffic.respond() and read_route(transitions.FLAGS).answers == "teacher"


def test_no_logs_and_too_few_requests_leave_the_window_open(traffic: Traffic) -> None:
    from tasks.paths import DECISIONS
    from tasks.serving.monitor import monitor_traffic

    seen = monitor_traffic(traffic.registry.params, traffic.begin + HOUR_S)
    assert seen.window is None and "no router has logged a request here" in seen.sentence
    DECISIONS.parent.mkdir(parents=True, exist_ok=True)
    DECISIONS.touch()
    assert "0 requests since" in monitor_traffic(traffic.registry.params, traffic.begin + HOUR_S).sentence
    first = monitor_traffic(traffic.registry.params, traffic.send(n=30))
    assert first.window is None and "30 requests since" in first.sentence and "drift.min_rows" in first.sentence
    second = monitor_traffic(traffic.registry.params, traffic.send(n=30))
    assert second.window is not None and second.window.requests == 60, "both hours are one window"
    assert not Path("artifacts/traffic/report.json").is_file() or second.rows


def test_without_the_traffic_log_the_rest_is_judged(traffic: Traffic) -> None:
    seen = traffic.monitored(texts=False, comparisons=False)
    assert seen.window.judged == {"scores", "deferred", "failed"}
    measures = {m.name: m for m in seen.window.measures}
    assert "set traffic.log" in measures["prompts"].unjudged and "live rows" in measures["disagreement"].unjudged
    assert "all rows are alike" in measures["slices"].unjudged


def test_damaged_shards_and_lines_of_other_versions_are_left_out(traffic: Traffic) -> None:
    from tasks.paths import COMPARISONS, DECISIONS, TRAFFIC
    from tasks.serving.monitor import monitor_traffic

    end = traffic.send()
    whole = sorted(TRAFFIC.glob("*.parquet"))[0]
    for name, content in (("zz.parquet", whole.read_bytes()[:900]), ("zy.parquet", b"")):
        (TRAFFIC / name).write_bytes(content)
        os.utime(TRAFFIC / name, (end - 300, end - 300))
    append(
        COMPARISONS,
        [
            {"id": "old", "at": end - 500, "version": traffic.version},
            {"at": end - 500, "version": "0", "disagreement": 1.0, "by_student": True},
        ],
    )
    append(DECISIONS, [{"at": end - 500, "id": "old"}, {"at": end - 400, "route": None, "reason": "", "failures": None, "score": "high"}])
    with open(DECISIONS, "ab") as handle:
        handle.write(b'{"at": 17, "rou')
    seen = monitor_traffic(traffic.registry.params, end)
    assert seen.window is not None and seen.window.requests == 92 and seen.window.answered["nobody"] == 2
    assert any(note.startswith("2 files of") for note in seen.notes) and any("have no disagreement" in note for note in seen.notes)
    measures = {m.name: m for m in seen.window.measures}
    assert measures["disagreement"].value == pytest.approx(0.1), "of this version alone"
    assert not measures["prompts"].unjudged


def test_during_a_rollout_only_lines_of_the_version_count_and_failed_requests_count_as_the_guard_counts_them(traffic: Traffic) -> None:
    from tasks.paths import COMPARISONS, DECISIONS
    from tasks.serving.monitor import monitor_traffic

    end = traffic.send()
    at = end - 1000.0
    other = [{**decision(f"o{n}", at + n, "", None, "student-status"), "student": "0"} for n in range(60)]
    mine = [{**decision(f"m{n}", at + n, "", 0.7, "unsure"), "student": traffic.version} for n in range(4)]
    nobodys = [{**decision(f"t{n}", at + n, "", None, "share"), "student": ""} for n in range(3)]
    append(DECISIONS, [*other, *mine, *nobodys])
    failed = {"version": traffic.version, "by_student": False, "guarded": True, "disagreement": None}
    append(COMPARISONS, [{"id": "f", "at": at + n, **failed} for n in range(10)])
    append(COMPARISONS, [{"id": "f", "at": at, **failed, "by_student": True}])
    seen = monitor_traffic(traffic.registry.params, end)
    measures = {m.name: m for m in seen.window.measures}
    assert seen.window.requests == 157 and (measures["failed"].rows, measures["scores"].rows) == (94, 49)
    assert measures["failed"].value == pytest.approx(45 / 94), "of this version alone"
    assert measures["disagreement"].value == pytest.approx(9 / 100) and any("1 lines of" in note for note in seen.notes)


def test_a_clock_that_is_set_back_begins_a_window_and_one_that_jumps_ahead_waits(traffic: Traffic) -> None:
    from tasks.serving.monitor import monitor_traffic

    end = traffic.send()
    assert monitor_traffic(traffic.registry.params, end).window is not None
    back = monitor_traffic(traffic.registry.params, end - 10 * HOUR_S)
    assert back.window is None and "the clock is earlier" in back.notes[0]
    assert len(back.state.windows) == 1, "what was seen stays"
    traffic.hour = 48
    later = traffic.send()
    assert monitor_traffic(traffic.registry.params, end + HOUR_S).window is None, "lines of the future wait for their time"
    seen = monitor_traffic(traffic.registry.params, later)
    assert seen.window is not None and seen.window.requests == 90


def test_the_state_belongs_to_version_and_reference_and_a_broken_file_is_an_empty_one(traffic: Traffic) -> None:
    from redistill.io.parquet import read_records, write_records
    from tasks.results.rows import HELDOUT
    from tasks.serving.drift_state import DRIFT as STATE_FILE

    for _ in range(2):
        seen = traffic.monitored(drifted)
    assert seen.state.verdict == "warn" and len(seen.state.windows) == 2
    prompts = read_records(HELDOUT, Prompt)
    write_records(HELDOUT, Prompt, prompts[:-1])
    other = traffic.monitored(drifted)
    assert other.state.verdict == "calm" and len(other.state.windows) == 1 and other.state.system != seen.state.system
    STATE_FILE.write_text('{"system": 3', encoding="utf-8")
    assert len(traffic.monitored().state.windows) == 1


def test_rows_with_replaced_personal_data_are_no_drift(traffic: Traffic) -> None:
    from redistill.data.traffic.types import LoggedRequest
    from redistill.io.parquet import read_records, write_records
    from tasks.paths import TRAFFIC
    from tasks.serving.monitor import monitor_traffic

    end = traffic.send()
    [file] = TRAFFIC.glob("*.parquet")
    rows = read_records(file, LoggedRequest)
    scrubbed = [replace(r, messages=(Message("user", f"{r.messages[0].content} [card number]"),), replaced=1) for r in rows[:30]]
    write_records(file, LoggedRequest, [*scrubbed, *rows[30:]])
    os.utime(file, (end - 300, end - 300))
    seen = monitor_traffic(traffic.registry.params, end)
    assert any("30 requests with personal data" in note for note in seen.notes)
    assert {m.name: m for m in seen.window.measures}["prompts"].rows <= 60


def test_the_command_runs_the_flow(traffic: Traffic, prefect_home: Path) -> None:
    from redistill.serving.route_flag import update_route
    from tasks.registry import transitions

    traffic.begin -= 2 * HOUR_S  # before now, as the command sees it
    update_route(transitions.FLAGS, lambda now: replace(now, changed_at="2026-01-01T00:00:00+00:00"))
    traffic.send(n=150)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "redistill", "drift", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(prefect_home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (
        told["verdict"] == "calm"
        and told["version"] == traffic.version
        and {m["measure"] for m in told["measures"]} >= {"prompts", "scores"}
    )
    assert not told["judged"] or Path("artifacts/traffic/report.html").is_file()
