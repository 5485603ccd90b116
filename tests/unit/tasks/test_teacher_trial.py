"""Which change of an endpoint's fingerprint is a new teacher."""

from __future__ import annotations

import pytest

from tasks.promotion.teacher_trial import _named_otherwise_before

NOW = {"model": "m", "revision": "", "url": "http://t/v1", "canary": "abc"}
BEFORE = {"model": "m", "revision": "", "url": "http://t/v1", "system_fingerprint": "fp"}


def test_an_upgrade_to_canaries_is_no_new_teacher() -> None:
    assert _named_otherwise_before(BEFORE, NOW)


@pytest.mark.parametrize(
    "before", [{**BEFORE, "model": "other"}, {**BEFORE, "url": "http://u/v1"}, {**NOW, "canary": "def"}, {"weights": "w"}]
)
def test_everything_else_is_one(before: dict[str, str]) -> None:
    assert not _named_otherwise_before(before, NOW)


def test_local_weights_are_never_named_otherwise() -> None:
    assert not _named_otherwise_before({"weights": "a"}, {"weights": "b"})
