"""What a night asks of the registry: weights are fetched once, and the history of years is read once, as a real MLflow server sees it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redistill.provenance import mlflow_names
from tasks.promotion import approve, retest_champion
from tasks.registry import transitions
from tasks.registry.history import History
from tests.integration.conftest import Registry
from tests.recording_proxy import Asked, recording_proxy
from tests.servers import mlflow_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[tuple[str, list[Asked]]]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), empty_registry) as url, recording_proxy(url) as recording:
        yield recording


@pytest.fixture
def registry(make_registry: Callable[..., Registry], server: tuple[str, list[Asked]], monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server[0])
    return make_registry()


def fetched(asked: list[Asked]) -> Counter[str]:
    """How often each file of weights was downloaded."""
    return Counter(a.path for a in asked if a.method == "GET" and a.path.endswith("model.safetensors"))


def history_reads(registry: Registry, asked: list[Asked]) -> list[str]:
    """The filter of every search in the history; an empty one reads all of it."""
    experiment = registry.client.get_experiment_by_name(mlflow_names.history_experiment(registry.params.data.name))
    searches = [json.loads(a.body) for a in asked if a.path.endswith("/runs/search")]
    filters = [search.get("filter", "") for search in searches if search["experiment_ids"] == [experiment.experiment_id]]
    # Who writes an event asks for the last ones, to number it.
    return [text for text in filters if not text.startswith("tags.")]


def night(registry: Registry, version: str, asked: list[Asked]) -> str | None:
    """The registry's part of a cycle whose candidate is ``version``, in the order of the cycle; counting starts here."""
    asked.clear()
    history = History()
    live = retest_champion.retest_champion(registry.params, history)
    assert live is not None and live.trusted
    judgement = retest_champion.decide_promotion(registry.params, history)
    passed = judgement.decision.verdict == "promote"
    barred = approve.blocked_by(registry.params, version, passed, history)
    if passed and barred is None and judgement.is_champion:
        pass  # It is live already.
    elif passed and barred is None:
        approve.promote(registry.params, version, "passed")
    else:
        approve.hold(
            registry.params, version, barred or judgement.decision.reasons[0], transitions.live(registry.client, registry.params).route
        )
    return barred


def test_a_night_without_news_fetches_the_champion_once_and_reads_the_history_once(
    registry: Registry, server: tuple[str, list[Asked]]
) -> None:
    """The candidate is what is live already; the reference is an older version, which is not on disk any more."""
    asked = server[1]
    approve.promote(registry.params, registry.version(122, seed=1), "first")
    two = registry.version(124, seed=2)
    approve.promote(registry.params, two, "second")
    assert night(registry, two, asked) is None
    assert transitions.live(registry.client, registry.params).champion == two
    assert list(fetched(asked).values()) == [1], "the champion's weights, to verify what others will load"
    assert history_reads(registry, asked).count("") == 1


def test_a_night_with_a_rejected_candidate_fetches_each_version_once(registry: Registry, server: tuple[str, list[Asked]]) -> None:
    asked = server[1]
    approve.promote(registry.params, registry.version(122, seed=1), "first")
    approve.promote(registry.params, registry.version(124, seed=2), "second")
    three = registry.version(123, seed=3)
    approve.reject(registry.params, three, "not now")
    assert "was rejected" in str(night(registry, three, asked))
    assert set(fetched(asked).values()) == {1}
    assert history_reads(registry, asked).count("") == 1


def test_what_a_person_says_during_the_night_is_heard(registry: Registry, server: tuple[str, list[Asked]]) -> None:
    """The history that is read once is asked for news at the end, hours later."""
    approve.promote(registry.params, registry.version(122, seed=1), "first")
    two = registry.version(124, seed=2)
    history = History()
    retest_champion.retest_champion(registry.params, history)
    server[1].clear()
    approve.reject(registry.params, two, "I have read its report")
    assert "was rejected" in str(approve.blocked_by(registry.params, two, True, history))
    reads = history_reads(registry, server[1])
    assert len(reads) == 1 and reads[0].startswith("attributes.start_time >= ")
    assert [e.kind for e in history.events(registry.client, registry.params)] == ["promote", "reject"]
