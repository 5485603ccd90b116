"""When a server is left alone, and who tries it again."""

from __future__ import annotations

from redistill.serving.router.breaker import Breaker


def test_failures_in_a_row_open_it_and_one_request_tries_again() -> None:
    breaker = Breaker(failures=3, open_s=10.0)
    breaker.failed(0.0)
    breaker.failed(0.0)
    breaker.succeeded()
    for at in (1.0, 2.0):
        breaker.failed(at)
    assert breaker.allows(2.0), "a success in between starts the count again"
    breaker.failed(3.0)
    assert not breaker.allows(12.9) and breaker.retry_after(8.0) == 5.0
    assert breaker.state(13.0) == "half-open" and breaker.allows(13.0) and not breaker.allows(13.0), "one probe"
    breaker.failed(14.0)
    assert breaker.state(23.9) == "open", "a failed probe opens it for the whole time again"
    assert breaker.allows(24.0)
    breaker.succeeded()
    assert breaker.state(24.0) == "closed" and breaker.allows(24.0) and breaker.allows(24.0)


def test_a_later_failure_never_shortens_the_wait() -> None:
    breaker = Breaker(failures=1, open_s=10.0)
    breaker.failed(100.0)
    breaker.failed(50.0)
    assert breaker.retry_after(105.0) == 5.0, "litellm#40130: a later cooldown kept the earlier, shorter deadline"


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    breaker = Breaker(failures=1, open_s=1.0)
    breaker.failed(0.0)
    assert breaker.allows(2.0)
    breaker.released()
    assert breaker.allows(2.0), "its caller left: the next request is the probe"
