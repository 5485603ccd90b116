"""What the router counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from redistill.serving.router.decision import Decision

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Each router has its own registry, so that several can run in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "redistill_requests", "Requests by who answered, why, and the status", ("route", "reason", "status"), registry=self.registry
        )
        self._failures = Counter(
            "redistill_upstream_failures", "Attempts that gave no completion", ("upstream", "kind"), registry=self.registry
        )
        self._seconds = Histogram(
            "redistill_request_seconds", "Whole requests, streams to their end", ("route",), buckets=_SECONDS, registry=self.registry
        )
        # Looking a series up by its labels takes as long as the rest of counting. There are few: reasons are a few words.
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._broken = Counter("redistill_broken_streams", "Streams that ended in the middle", ("kind",), registry=self.registry)
        self._left = Counter("redistill_callers_left", "Requests whose caller closed the connection", registry=self.registry)
        self.open = Gauge("redistill_open_requests", "Requests in work", registry=self.registry)
        self.refused = Counter("redistill_refused", "Requests that were not let in", ("why",), registry=self.registry)
        self.lost_lines = Gauge("redistill_lost_log_lines", "Lines of the decision log that could not be written", registry=self.registry)
        self.traffic_written = Gauge("redistill_traffic_rows", "Requests in files of the traffic log", registry=self.registry)
        self.traffic_lost = Gauge("redistill_traffic_lost_rows", "Requests that the traffic log could not keep", registry=self.registry)
        self.traffic_waiting = Gauge(
            "redistill_traffic_waiting_rows", "Requests that wait for the writer of the traffic log", registry=self.registry
        )
        self.sampled = Gauge(
            "redistill_shadow_sampled", "Sampled requests, by the model that is asked beside", ("asked",), registry=self.registry
        )
        self.compared = Gauge(
            "redistill_shadow_compared", "Sampled requests of which both completions were compared", ("asked",), registry=self.registry
        )
        self.verified = Gauge(
            "redistill_student_verified", "1 if the student's server was shown to serve the flag's version", registry=self.registry
        )
        self.rollout = Gauge(
            "redistill_rollout_share",
            "The share of the keys that the flag's version has; 1 where none is under way",
            registry=self.registry,
        )
        self.breaker = Gauge(
            "redistill_breaker_open", "1 while an upstream is not asked, after failures", ("upstream",), registry=self.registry
        )

    def count(self, decision: Decision) -> None:
        """Count a request that has ended."""
        kept = self._series.get(key := (decision.route or "none", decision.reason, decision.status))
        if kept is None:
            route, reason, status = key
            kept = self._series[key] = self._requests.labels(route, reason, str(status)), self._seconds.labels(route)
        requests, seconds = kept
        requests.inc()
        seconds.observe(decision.seconds)
        for side, kind in decision.failures:
            self._failures.labels(side, kind).inc()
        if decision.ended == "left":
            self._left.inc()
        elif decision.ended not in ("done", "error"):
            self._broken.labels(decision.ended or "unknown").inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
