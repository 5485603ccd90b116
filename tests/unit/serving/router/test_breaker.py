"""When a server is not asked any more, and which request tries it again."""

from __future__ import annotations

from redistill.serving.router.breaker import Breaker, Ticket


def passing(breaker: Breaker, now: float) -> Ticket:
    ticket = breaker.ticket(now)
    assert ticket is not None
    return ticket


def test_failures_in_a_row_open_it_and_one_request_tries_again() -> None:
    breaker = Breaker(failures=3, open_s=10.0)
    for _ in range(2):
        breaker.failed(passing(breaker, 0.0), 0.0)
    breaker.succeeded(passing(breaker, 0.0))
    for at in (1.0, 2.0):
        breaker.failed(passing(breaker, at), at)
    assert breaker.ticket(2.0), "a success in between starts the count again"
    breaker.failed(passing(breaker, 3.0), 3.0)
    assert breaker.ticket(12.9) is None and breaker.retry_after(8.0) == 5.0
    probe = passing(breaker, 13.0)
    assert breaker.state(13.0) == "half-open" and probe.is_probe and breaker.ticket(13.0) is None, "one probe"
    breaker.failed(probe, 14.0)
    assert breaker.state(23.9) == "open", "a failed probe opens it for the whole time again"
    breaker.succeeded(passing(breaker, 24.0))
    assert breaker.state(24.0) == "closed" and breaker.ticket(24.0) and breaker.ticket(24.0)


def test_a_later_failure_never_shortens_the_wait() -> None:
    breaker = Breaker(failures=1, open_s=10.0)
    first, second = passing(breaker, 100.0), passing(breaker, 100.0)
    breaker.failed(first, 100.0)
    breaker.failed(second, 50.0)
    assert breaker.retry_after(105.0) == 5.0, "litellm#40130: a later cooldown kept the earlier, shorter deadline"


def test_a_probe_that_says_nothing_gives_its_place_back_and_a_lost_one_does_not_keep_it_for_ever() -> None:
    breaker = Breaker(failures=1, open_s=1.0)
    breaker.failed(passing(breaker, 0.0), 0.0)
    breaker.released(passing(breaker, 2.0))
    assert passing(breaker, 2.0).is_probe, "its caller left: the next request is the probe"
    assert breaker.ticket(200.0) is None and breaker.ticket(400.0) is not None


def test_what_began_before_it_opened_changes_nothing() -> None:
    breaker = Breaker(failures=1, open_s=1.0)
    slow, slower, failing = (passing(breaker, 0.0) for _ in range(3))
    breaker.failed(failing, 0.0)
    probe = passing(breaker, 2.0)
    breaker.succeeded(slow)
    breaker.released(slower)
    assert breaker.state(2.0) == "half-open" and breaker.ticket(2.0) is None, "the probe still has its place"
    breaker.succeeded(probe)
    assert breaker.state(2.0) == "closed"
