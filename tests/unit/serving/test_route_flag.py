"""Who answers: whatever is unreadable means teacher, a pin stands over the mode, and a reader never sees half a file."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from redistill.errors import ConfigError
from redistill.promotion.cascade import Cascade, Engine
from redistill.serving.route_flag import FLAG, SAFE, evaluate, flag_file, read_route, to_version, with_pin, write_route
from redistill.serving.types import Route, route_from_json

STUDENT = Route("none", "student", "7", "version 7 was promoted", "2026-11-22T02:00:00+00:00")
GOOD = json.dumps(flag_file(STUDENT))
THRESHOLD = Cascade("sum_logprob", -0.42, 0.05, "a" * 64, (Engine("vllm", "0.32.0", "bfloat16"),))
CASCADE = replace(STUDENT, mode="cascade", cascade=THRESHOLD)


def changed(**metadata: Any) -> str:
    tree = flag_file(STUDENT)
    tree["flags"][FLAG]["metadata"].update(metadata)
    return json.dumps(tree)


def without(key: str) -> str:
    tree = flag_file(STUDENT)
    del tree["flags"][FLAG]["metadata"][key]
    return json.dumps(tree)


UNREADABLE = {
    "empty": "",
    "half written": GOOD[: len(GOOD) // 2],
    "twice": GOOD + GOOD,
    "no JSON": "student",
    "another shape": "[]",
    "a word": '"student"',
    "null": "null",
    "no flags": '{"flags": {}}',
    "flags of a list": '{"flags": [1]}',
    "another flag": GOOD.replace(FLAG, "checkout-button"),
    "no metadata": '{"flags": {"redistill-route": {"state": "ENABLED", "defaultVariant": "student"}}}',
    "deep": "[" * 200_000,
    "unknown mode": changed(mode="canary-ish"),
    "unknown pin": changed(pin="Student"),
    "mode is a list": changed(mode=["student"]),
    "mode is null": changed(mode=None),
    "no mode": without("mode"),
    "no pin": without("pin"),
    "no version": without("model_version"),
    "no reason": without("reason"),
    "a cascade without a threshold": changed(mode="cascade"),
    "a threshold that is no object": changed(mode="cascade", cascade="[]"),
    "a threshold that is not text": changed(mode="cascade", cascade={"score": "sum_logprob"}),
    "a threshold with another key": changed(mode="cascade", cascade=json.dumps({**asdict(THRESHOLD), "speed": 1})),
    "a threshold without its engines": changed(mode="cascade", cascade=json.dumps({**asdict(THRESHOLD), "engines": None})),
    "a threshold that is not a number": changed(mode="cascade", cascade=json.dumps({**asdict(THRESHOLD), "threshold": float("nan")})),
    "a threshold below everything": changed(mode="cascade", cascade=json.dumps({**asdict(THRESHOLD), "threshold": float("-inf")})),
    "a threshold as text": changed(mode="cascade", cascade=json.dumps({**asdict(THRESHOLD), "threshold": "-0.42"})),
}


@pytest.mark.parametrize(
    "route",
    [STUDENT, CASCADE, replace(CASCADE, pin="student"), replace(STUDENT, pin="teacher"), SAFE, replace(STUDENT, reason='"né" 💳\n; {}')],
)
def test_a_route_reads_back_as_written(tmp_path: Path, route: Route) -> None:
    write_route(tmp_path / "new" / "flags.json", route)
    assert read_route(tmp_path / "new" / "flags.json") == route


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_whatever_is_unreadable_means_teacher(tmp_path: Path, content: str) -> None:
    file = tmp_path / "flags.json"
    file.write_text(content, encoding="utf-8")
    assert read_route(file) == SAFE
    assert read_route(file).answers == "teacher"


def test_absent_binary_or_no_file_at_all_means_teacher(tmp_path: Path) -> None:
    (tmp_path / "flags.json").write_bytes(b"\xff\xfe\x00" + GOOD.encode("utf-16"))
    assert [read_route(p) for p in (tmp_path / "absent.json", tmp_path, tmp_path / "flags.json")] == [SAFE] * 3


def test_every_truncation_of_a_student_file_means_teacher(tmp_path: Path) -> None:
    """A copy that broke off: nothing short of the whole file may open the way to the student."""
    file = tmp_path / "flags.json"
    for end in range(0, len(GOOD), 7):
        file.write_text(GOOD[:end])
        assert read_route(file) == SAFE, GOOD[:end]


@pytest.mark.parametrize("version", [None, ""])
def test_a_student_without_a_version_is_trusted_by_nobody(tmp_path: Path, version: str | None) -> None:
    assert replace(STUDENT, model_version=version).answers == "teacher"
    assert replace(STUDENT, pin="student", model_version=version).answers == "teacher"
    (tmp_path / "flags.json").write_text(changed(model_version=version))
    assert read_route(tmp_path / "flags.json").answers == "teacher"


def test_a_disabled_flag_is_told_as_what_routers_do_with_it(tmp_path: Path) -> None:
    """`route get` must not say student while every router, for the same file, asks the teacher."""
    tree = flag_file(STUDENT)
    tree["flags"][FLAG]["state"] = "DISABLED"
    (tmp_path / "flags.json").write_text(json.dumps(tree))
    assert read_route(tmp_path / "flags.json").answers == "teacher"


@pytest.mark.parametrize(
    ("pin", "mode", "answers"),
    [
        ("none", "teacher", "teacher"),
        ("none", "student", "student"),
        ("teacher", "student", "teacher"),
        ("teacher", "teacher", "teacher"),
        ("student", "teacher", "student"),
        ("student", "student", "student"),
    ],
)
def test_a_pin_stands_over_the_mode_and_the_flag_says_the_same(pin: Any, mode: Any, answers: str) -> None:
    route = replace(STUDENT, pin=pin, mode=mode)
    assert route.answers == answers
    flag = flag_file(route)["flags"][FLAG]
    assert flag["state"] == "ENABLED" and flag["variants"][flag["defaultVariant"]] == answers
    assert flag["metadata"] == {
        "pin": pin,
        "mode": mode,
        "model_version": "7",
        "reason": STUDENT.reason,
        "changed_at": STUDENT.changed_at,
        "teacher": "",
    }


def test_the_system_changes_the_mode_and_leaves_the_pin() -> None:
    pinned = with_pin(STUDENT, "teacher", "incident 12")
    assert (pinned.pin, pinned.mode, pinned.model_version, pinned.reason, pinned.answers) == (
        "teacher",
        "student",
        "7",
        "incident 12",
        "teacher",
    )
    moved = to_version(pinned, "8", None, "version 8 was promoted")
    assert (moved.pin, moved.model_version, moved.answers) == ("teacher", "8", "teacher")
    back = with_pin(moved, "auto", "incident closed")
    assert (back.pin, back.mode, back.model_version, back.answers) == ("none", "student", "8", "student")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", back.changed_at)


@pytest.mark.parametrize(
    ("route", "wanted", "reason", "said"),
    [
        (STUDENT, "canary", "why not", "'canary' is unknown; set teacher, student or auto"),
        (STUDENT, "none", "why not", "'none' is unknown"),
        (STUDENT, "teacher", "", "--reason"),
        (STUDENT, "auto", " \n", "--reason"),
        (SAFE, "student", "I am sure", "no student has been promoted yet"),
    ],
)
def test_a_wrong_pin_is_refused(route: Route, wanted: str, reason: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_pin(route, wanted, reason)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    routes = (STUDENT, replace(STUDENT, pin="teacher", reason="x" * 50_000))
    write_route(file, routes[0])
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            write_route(file, routes[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        seen.append(read_route(file))
    writer.join()
    assert seen and set(seen) <= set(routes)
    assert [p.name for p in tmp_path.iterdir()] == ["flags.json"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flags")


@pytest.mark.parametrize("route", [STUDENT, replace(STUDENT, pin="teacher"), with_pin(replace(STUDENT, mode="teacher"), "student", "r")])
def test_a_router_reads_what_was_written(files: Path, route: Route) -> None:
    """Asked of OpenFeature and flagd's own file resolver, again and again in one process, as a server does."""
    write_route(files / "flags.json", route)
    assert [evaluate(files / "flags.json", targeting_key=f"user-{n}") for n in range(3)] == [route.answers] * 3


@pytest.mark.parametrize(
    "content", [GOOD.replace("ENABLED", "DISABLED"), GOOD[:200], "", '{"flags": {}}', GOOD.replace('"student": "student"', '"student": 3')]
)
def test_a_router_asks_the_teacher_in_doubt(tmp_path: Path, content: str) -> None:
    (tmp_path / "flags.json").write_text(content)
    assert evaluate(tmp_path / "flags.json", timeout_s=1.0) == "teacher"


def test_a_router_without_a_file_asks_the_teacher_at_once(tmp_path: Path) -> None:
    assert evaluate(tmp_path / "absent.json") == "teacher" == evaluate(tmp_path)


def test_asking_leaves_no_thread_that_goes_on_reading(tmp_path: Path) -> None:
    write_route(tmp_path / "flags.json", STUDENT)
    before = {t for t in threading.enumerate() if "Watcher" in t.name}
    evaluate(tmp_path / "flags.json", timeout_s=0.2)
    for thread in {t for t in threading.enumerate() if "Watcher" in t.name} - before:
        thread.join(timeout=5.0)
        assert not thread.is_alive()


def test_a_cascade_answers_as_a_cascade_unless_a_person_pins_one_of_its_models(tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    for route, answers in (
        (CASCADE, "cascade"),
        (replace(CASCADE, pin="teacher"), "teacher"),
        (replace(CASCADE, pin="student"), "student"),
        (replace(CASCADE, cascade=None), "teacher"),
        (replace(CASCADE, model_version=None), "teacher"),
    ):
        assert route.answers == answers
        write_route(flags, route)
        assert evaluate(flags) == answers


def test_a_pin_keeps_the_threshold_and_a_new_version_does_not() -> None:
    pinned = with_pin(CASCADE, "teacher", "incident")
    assert pinned.cascade == THRESHOLD and with_pin(pinned, "auto", "over").answers == "cascade"
    assert to_version(pinned, "8", None, "version 8 was promoted").cascade is None
    assert route_from_json(json.loads(json.dumps(asdict(CASCADE)))) == CASCADE
    before = {key: value for key, value in asdict(STUDENT).items() if key != "cascade"}
    assert route_from_json(before) == STUDENT, "a route from before there were cascades"
