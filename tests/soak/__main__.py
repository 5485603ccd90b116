"""``make soak``: a fortnight of bad nights on real servers and tiny models, told on one page and checked; under 20 minutes on two cores.

Each check has a name and an expectation. The last line says how many were as expected; the exit code is 1 if one was not.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx

from redistill.data.types import Prompt
from redistill.io.parquet import read_records
from tests.soak.story import Story

BEFORE = {"app": 0.3, "e-mail": 0.3, "phone": 0.7}
IMPROVED = {"app": 0.3, "e-mail": 0.3, "phone": 0.25}
WORSE = dict.fromkeys(BEFORE, 0.9)
SILENT = {"phone": 0.6}


def first_night(s: Story) -> str:
    s.behave(BEFORE)
    ran = s.cycle("first night")
    assert ran["state_name"] == "Completed" and "promoted version 1" in ran["state"]["message"], ran["state"]["message"]
    assert s.route() == "student"
    return f"{ran['state']['message']}; {len(s.asked())} requests to the teacher"


def nothing_new(s: Story) -> str:
    before, versions, history = len(s.asked()), len(s.versions()), len(s.history())
    ran = s.cycle("nightly")
    new = s.asked()[before:]
    assert ran["state"]["message"].startswith("nothing to do"), ran["state"]["message"]
    assert ran["total_run_time"] < 20, ran["total_run_time"]
    assert not asked_again(s, before) and len(new) <= len(s.canaries()) + 4, len(new)
    assert (len(s.versions()), len(s.history())) == (versions, history)
    return f"{ran['total_run_time']:.0f} s from Running to Completed, {len(new)} requests (canaries and the lock's probe), no version, no entry"


def fingerprint_rotates(s: Story) -> str:
    s.behave(BEFORE, fingerprint="fp-2")
    ran = s.cycle("nightly")
    assert ran["state"]["message"].startswith("nothing to do"), ran["state"]["message"]
    return "another system_fingerprint from the same model: nothing to do"


def improves_on_one_slice(s: Story) -> str:
    before = len(s.asked())
    s.behave(IMPROVED, fingerprint="fp-3")
    ran = s.cycle("nightly")
    message = ran["state"]["message"]
    assert message.startswith("promoted version"), message
    again = asked_again(s, before)
    assert {pool_texts(s)[text] for text in again} == {"phone"}, again
    answers = s.lock()["answers_from"]
    assert set(answers) == {"default", "app", "e-mail"} and len(set(answers.values())) == 2, answers
    return f"{len(again)} of {len(pool_texts(s))} prompts asked again, all of slice phone; {message}"


def wholly_new_teacher(s: Story) -> str:
    before = len(s.asked())
    s.behave({}, fingerprint="fp-4")
    ran = s.cycle("nightly")
    message = ran["state"]["message"]
    assert message.startswith("promoted version"), message
    again = {pool_texts(s)[text] for text in asked_again(s, before)}
    assert again == {"app", "e-mail", "phone"} and set(s.lock()["answers_from"]) == {"default"}, (again, s.lock()["answers_from"])
    return f"every slice asked again; {message}"


def worse_teacher(s: Story) -> str:
    lock, route, champion = s.lock(), s.route(), s.command("status")["champion"]
    s.behave(WORSE, fingerprint="fp-5")
    ran = s.cycle("nightly")
    assert "teacher refused" in ran["state"]["message"], ran["state"]["message"]
    assert (s.lock(), s.route(), s.command("status")["champion"]) == (lock, route, champion)
    alerts = s.events("redistill.alert.teacher-refused")
    s.cycle("nightly")
    assert s.events("redistill.alert.teacher-refused") == alerts == 1, "told once"
    s.behave({}, fingerprint="fp-4")
    return f"refused twice, told once; lock, route ({route}) and champion ({champion}) as before"


def teacher_is_down(s: Story) -> str:
    champion, route = s.command("status")["champion"], s.route()
    s.behave({}, down=True)
    ran = s.cycle("nightly", 400)
    assert ran["state_name"] == "Failed", ran["state"]
    errors = [line for line in s.logs(ran["id"]) if "503" in line or "down for maintenance" in line]
    assert errors and "Traceback" not in "".join(s.logs(ran["id"])), "one clear line"
    assert (s.command("status")["champion"], s.route()) == (champion, route)
    s.until(lambda: s.events("redistill.alert.failed") == 1, "someone is told", 30)
    s.behave({}, fingerprint="fp-4")
    back = s.cycle("nightly")
    assert back["state"]["message"].startswith("nothing to do"), back["state"]["message"]
    return (
        f"failed in {ran['total_run_time']:.0f} s with one line, champion {champion} untouched, someone told; the next night: nothing to do"
    )


def mistake_in_params(s: Story) -> str:
    alerts, file = s.events("redistill.alert.failed"), s.project / "params.yaml"
    good = file.read_text(encoding="utf-8")
    file.write_text(good + "extra: 1\n", encoding="utf-8")
    ran = s.cycle("nightly")
    file.write_text(good, encoding="utf-8")
    assert ran["state_name"] == "Failed" and "extra is not a known key" in ran["state"]["message"], ran["state"]
    # Events arrive a moment after the run that sends them.
    s.until(
        lambda: s.events("redistill.alert.failed") == alerts + 1, "someone is told, although the cycle did not come to its first step", 30
    )
    assert s.cycle("nightly")["state"]["message"].startswith("nothing to do")
    return "failed before its first step with the name of the key, someone told; the next night: nothing to do"


def changes_silently(s: Story) -> str:
    changed, lock = s.events("redistill.teacher.version.changed"), s.lock()
    s.behave(SILENT, fingerprint="fp-4")
    seen = s.wait(s.start("", "watch_teacher"))
    assert "teacher changed from" in seen["state"]["message"], seen["state"]["message"]
    cycle = s.until(lambda: next((r for r in s.runs() if "teacher changed" in r["name"]), None), "the watcher's cycle starts", 60)
    ended = s.wait(cycle["id"])
    s.wait(s.start("", "watch_teacher"))
    assert s.events("redistill.teacher.version.changed") == changed + 1, "one event for a version"
    assert "teacher refused" in ended["state"]["message"] and s.lock() == lock, ended["state"]["message"]
    s.behave({}, fingerprint="fp-4")
    back = s.cycle("nightly")
    assert back["state"]["message"].startswith("nothing to do"), back["state"]["message"]
    return f"seen by the watcher without a new fingerprint, one event; {ended['state']['message'][:120]}"


def bad_champion(s: Story) -> str:
    import mlflow

    from redistill.serving.route_flag import read_route, to_version, write_route

    good = str(s.command("status")["champion"])
    flags = s.project / "artifacts/route/flags.json"
    mlflow.set_tracking_uri(f"http://127.0.0.1:{s.box.mlflow}")
    source = next(v for v in s.versions() if v["version"] == good)["source"]
    bad = str(mlflow.register_model(source, "tiny").version)
    mlflow.MlflowClient().set_registered_model_alias("tiny", "champion", bad)
    write_route(flags, to_version(read_route(flags), bad, None, "forced by hand"))
    run_id, begun = s.start("nightly"), time.monotonic()
    s.until(lambda: s.route() == "teacher", "traffic is back on the teacher", 120)
    seconds = time.monotonic() - begun
    s.wait(run_id)
    assert s.route() == "teacher" and s.events("redistill.alert.champion-distrusted") >= 1
    s.command("rollback", "--to", good, "--reason", "the forced version was never judged")
    assert s.route() == "student"
    return f"an unsigned version forced into champion: traffic on the teacher {seconds:.0f} s after the run was asked for; rolled back to {good}"


def down_for(seconds: int) -> Callable[[Story], str]:
    def check(s: Story) -> str:
        s.train_again()
        run_id = s.start(f"server away for {seconds} s")
        s.until_training(run_id)
        with s.server_down(seconds):
            pass
        ran = s.wait(run_id, 400)
        assert ran["state_name"] == "Completed", ran["state"]
        return f"the cycle went on and ended: {ran['state']['message'][:90]}"

    return check


def double_trigger(s: Story) -> str:
    s.train_again()
    known = {r["id"] for r in s.runs()}
    first = s.start("the night")
    s.until_training(first)
    queued = [s.wait(s.start("first trigger")), s.wait(s.start("second trigger"))]
    assert {q["state_name"] for q in queued} == {"Queued"}, queued
    s.wait(first)
    later = s.until(lambda: [r for r in s.runs() if r["id"] not in known | {first, *(q["id"] for q in queued)}], "one more run", 60)
    ended = s.wait(later[0]["id"])
    assert len(later) == 1 and "first trigger; second trigger" in str(ended["parameters"]["reason"]), ended["parameters"]
    return f"both triggers became one later run with both reasons; {ended['state']['message'][:60]}"


def cancelled(s: Story) -> str:
    s.train_again()
    run_id = s.start("to be cancelled")
    s.until_training(run_id)
    begun = time.monotonic()
    s.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
    s.until(lambda: not s.workers(), "its processes end", 30)
    gone = time.monotonic() - begun
    ran = s.wait(run_id, 60)
    state = time.monotonic() - begun
    assert ran["state_name"] == "Cancelled" and gone <= 8 and state <= 15, (ran["state_name"], gone, state)
    mlflow = f"http://127.0.0.1:{s.box.mlflow}/api/2.0/mlflow"
    filters = {"experiment_ids": ["1"], "filter": "tags.`redistill.status` = 'cancelled'"}
    [run] = httpx.post(f"{mlflow}/runs/search", json=filters, timeout=30).json()["runs"]
    assert run["info"]["status"] == "KILLED"
    after = s.cycle("after the cancelled one")
    assert after["state_name"] == "Completed", after["state"]
    return f"processes gone after {gone:.0f} s, Cancelled after {state:.0f} s, KILLED in MLflow; the next run: {after['state']['message'][:50]}"


def killed_everything(s: Story) -> str:
    s.train_again()
    run_id = s.start("the night of the power loss")
    s.until_training(run_id)
    for process in s.processes():
        process.send_signal(signal.SIGKILL)
    s.until(lambda: not s.processes(), "everything is dead", 10)
    begun = time.monotonic()
    up = s.box.up()
    assert up.returncode == 0, up.stderr
    after = s.until(lambda: next((r for r in s.runs() if "continues the interrupted" in r["name"]), None), "the cycle continues", 360)
    started = time.monotonic() - begun
    ended = s.wait(after["id"])
    assert s.run(run_id)["state_name"] == "Crashed" and ended["state_name"] == "Completed" and started < 360
    return f"`up` and the continued cycle {started:.0f} s after the kill, without a hand; the killed run is Crashed; {ended['state']['message'][:50]}"


def five_nights_missed(s: Story) -> str:
    deployment = s.deployment("distill_student")
    s.box.run("down")
    up = s.box.up()
    assert up.returncode == 0, up.stderr
    os.kill(s.box.pid("supervisor"), signal.SIGSTOP)
    os.kill(s.box.pid("runner"), signal.SIGKILL)
    now = dt.datetime.now(dt.UTC)
    known = {r["id"] for r in s.runs()}
    span = {"start_time": (now - dt.timedelta(days=5)).isoformat(), "end_time": now.isoformat(), "min_runs": 5, "max_runs": 10}
    s.post(f"/deployments/{deployment}/schedule", span)
    os.kill(s.box.pid("supervisor"), signal.SIGCONT)
    new = s.until(
        lambda: (
            runs
            if len(runs := [r for r in s.runs() if r["id"] not in known]) >= 5 and all(r["state_type"] in FINAL_STATES for r in runs)
            else None
        ),
        "the late nights end",
        240,
    )
    names = sorted(r["state_name"] for r in new)
    assert names.count("Skipped") == len(new) - 1 and names.count("Completed") == 1, names
    return f"{len(new)} late nights: {names.count('Skipped')} skipped, the newest ran"


def lost_night(s: Story) -> str:
    """The scheduler never started a night, as after a deploy that deletes late runs."""
    night = s.project / ".redistill/last-night.json"
    night.write_text(json.dumps({"scheduled": "2026-01-02T06:30:00+00:00", "run": "x"}), encoding="utf-8")
    known = {r["id"] for r in s.runs()}
    seen = s.wait(s.start("", "watch_teacher"))
    assert "was missed" in seen["state"]["message"], seen["state"]["message"]
    [cycle] = s.until(lambda: [r for r in s.runs() if r["id"] not in known], "the watcher's cycle starts", 60)
    s.wait(cycle["id"])
    again = s.wait(s.start("", "watch_teacher"))
    assert "has not changed" in again["state"]["message"] and len([r for r in s.runs() if r["id"] not in known]) == 1, again["state"]
    return f"started by the watcher, once: {cycle['parameters']['reason']}"


def daylight_saving(s: Story) -> str:
    """01:30 in New York exists twice on 1 November 2026, and 02:30 not at all on 14 March 2027."""
    zone, counts = ZoneInfo("America/New_York"), []
    for day in (dt.date(2027, 3, 14), dt.date(2027, 11, 7)):
        begin = dt.datetime.combine(day, dt.time(0), zone)
        span = {"start_time": begin.isoformat(), "end_time": (begin + dt.timedelta(hours=24)).isoformat(), "min_runs": 1, "max_runs": 10}
        deployment = s.deployment("distill_student")
        s.post(f"/deployments/{deployment}/schedule", span)
        within = {"expected_start_time": {"after_": begin.isoformat(), "before_": (begin + dt.timedelta(hours=23)).isoformat()}}
        runs = s.post("/flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [deployment]}, **within}})
        counts.append(len(runs))
        for run in runs:
            httpx.delete(f"{s.box.api}/flow_runs/{run['id']}", timeout=30)
    assert counts == [1, 1], counts
    return "one run in the night that loses an hour, one in the night that repeats one"


def champion_reproduced(s: Story) -> str:
    champion = str(s.command("status")["champion"])
    built = s.command("reproduce", champion)
    assert built["reproduced"] and built["weights_identical"], built
    return f"version {champion} built again in {built['seconds']:.0f} s: weights identical, {built['same_response']} of {built['rows']} responses"


def nothing_lost(s: Story) -> str:
    running = s.post("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}})
    assert not running, [r["name"] for r in running]
    digests = [t["value"] for v in s.versions() for t in v.get("tags", []) if t["key"] == "redistill.model_digest"]
    assert len(digests) == len(set(digests)), "no weights are registered twice"
    size = sum(f.stat().st_size for f in s.project.rglob("*") if f.is_file() and not f.is_symlink())
    cycles = len([r for r in s.runs() if r["state_type"] == "COMPLETED"])
    assert size < 1e9, size
    return f"nothing is left Running, {len(digests)} versions with {len(set(digests))} digests, {size / 1e6:.0f} MB after {cycles} cycles"


def pool_texts(s: Story) -> dict[str, str]:
    """What the teacher completes, as it is asked: text → slice."""
    splits = (read_records(s.project / f"artifacts/prompts/{split}.parquet", Prompt) for split in ("pool", "calibration"))
    return {p.text.strip(): p.slice for split in splits for p in split}


def asked_again(s: Story, before: int) -> set[str]:
    """The pool's texts that were asked since, as ``generate`` asks: canaries have another limit of tokens."""
    return {a["text"] for a in s.asked()[before:] if a["max_tokens"] == 16 and a["text"] in pool_texts(s)}


FINAL_STATES = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
CHECKS: list[tuple[str, Callable[[Story], str]]] = [
    ("the first night", first_night),
    ("nothing new", nothing_new),
    ("an endpoint rotates its fingerprint", fingerprint_rotates),
    ("the teacher improves on one slice", improves_on_one_slice),
    ("a wholly new teacher", wholly_new_teacher),
    ("a worse teacher", worse_teacher),
    ("a teacher that is down", teacher_is_down),
    ("a mistake in params.yaml", mistake_in_params),
    ("an endpoint that changes silently", changes_silently),
    ("a bad student forced into champion", bad_champion),
    ("the server down for 20 s", down_for(20)),
    ("a double trigger", double_trigger),
    ("a cancelled run", cancelled),
    ("the server down for 120 s", down_for(120)),
    ("kill -9 of everything", killed_everything),
    ("five nights missed", five_nights_missed),
    ("a night that was lost", lost_night),
    ("the nights that clocks change", daylight_saving),
    ("the champion reproduced", champion_reproduced),
    ("nothing lost, nothing left", nothing_lost),
]


def main(only: list[str]) -> int:
    folder = Path(tempfile.mkdtemp(prefix="redistill-soak-"))
    story, begun = Story(folder), time.monotonic()
    failed: list[str] = []
    checks = [(n, c) for n, c in CHECKS if not only or any(word in n for word in only)]
    try:
        up = story.box.up()
        assert up.returncode == 0, up.stderr
        print(f"up after {time.monotonic() - begun:.0f} s; {len(checks)} checks\n", flush=True)
        for name, check in checks:
            started = time.monotonic()
            try:
                sentence, mark = check(story), "ok  "
            except Exception as error:
                sentence, mark = f"{type(error).__name__}: {str(error)[:600]}", "FAIL"
                failed.append(name)
                traceback.print_exc()
            print(f"{mark} {name:<36} {time.monotonic() - started:>4.0f} s  {' '.join(sentence.split())}", flush=True)
    finally:
        story.end()
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"\nthe project and its logs: {folder}")
    print(f"\n{time.monotonic() - begun:.0f} s\nsoak: {len(checks) - len(failed)} of {len(checks)} as expected")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
