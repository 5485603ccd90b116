"""A changed endpoint is found, and an endpoint that answers equal requests in different ways is not called changed."""

from __future__ import annotations

import random

import pytest

from redistill.operations.canary import Canary, CanaryReply, changed, differing, differs, repeat_rate

N = 32


def served(rng: random.Random, noise: float, model: str, changes: frozenset[int] = frozenset()) -> dict[str, CanaryReply]:
    """One probe of an endpoint that gives another text in a share ``noise`` of its replies."""
    replies = {}
    for number in range(N):
        text = f"{model if number in changes else 'first'} {number}"
        replies[str(number)] = CanaryReply(f"{text} {rng.random()}" if rng.random() < noise else text)
    return replies


def baseline(rng: random.Random, noise: float) -> list[Canary]:
    probes = [served(rng, noise, "first") for _ in range(3)]
    return [Canary(str(n), "app" if n < N // 2 else "phone", tuple(p[str(n)] for p in probes)) for n in range(N)]


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.3])
def test_an_unchanged_endpoint_is_called_changed_in_less_than_one_of_a_hundred(noise: float) -> None:
    rng, wrong, trials = random.Random(7), 0, 400
    for _ in range(trials):
        canaries = baseline(rng, noise)
        wrong += bool(changed(canaries, served(rng, noise, "first"), served(rng, noise, "first")))
    assert wrong <= 8, f"{wrong} of {trials}; at a true rate of 1 % more than 8 have a chance of 2 %"


@pytest.mark.parametrize(("noise", "share"), [(0.0, 0.1), (0.02, 0.25), (0.1, 0.5)])
def test_a_change_of_a_part_is_found(noise: float, share: float) -> None:
    rng = random.Random(7)
    moved = frozenset(range(int(N * share)))
    missed = 0
    for _ in range(100):
        shown = changed(baseline(rng, noise), served(rng, noise, "second", moved), served(rng, noise, "second", moved))
        missed += not shown
        assert not shown or {str(n) for n in moved} - shown == set() or noise > 0
    assert missed <= 2


def test_equal_texts_with_other_probabilities_are_another_model() -> None:
    canary = Canary("1", "app", (CanaryReply("fee", -0.20), CanaryReply("fee", -0.21)))
    assert not differs(canary, CanaryReply("fee", -0.22)) and differs(canary, CanaryReply("fee", -0.5))
    assert not differs(canary, CanaryReply("fee")) and differs(canary, CanaryReply("pin", -0.2))


def test_one_probe_is_never_enough_and_a_missing_reply_is_no_difference() -> None:
    rng = random.Random(7)
    canaries = baseline(rng, 0.0)
    other, same = served(rng, 0.0, "second", frozenset(range(N))), served(rng, 0.0, "first")
    assert len(differing(canaries, other)) == N and not changed(canaries, other, same) and not differing(canaries, {})


def test_a_baseline_without_repeats_shows_nothing() -> None:
    single = [Canary(str(n), "app", (CanaryReply("fee"),)) for n in range(N)]
    other = {str(n): CanaryReply("pin") for n in range(N)}
    assert repeat_rate(single) == 1.0 and not changed(single, other, other)
