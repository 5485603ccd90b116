"""Chunks: every item is handed out until it is done or lost, and one that ends replicas takes no others with it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from redistill.cluster.chunks import Chunk, Chunks


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 4), st.sets(st.integers(0, 59), max_size=3), st.integers(0, 10_000))
def test_all_items_are_done_except_those_that_end_replicas(count: int, largest: int, replicas: int, poison: set[int], seed: int) -> None:
    chunks, draw = Chunks(count, largest, 1, replicas), random.Random(seed)
    working: list[Chunk] = []
    done, lost, ends = list[int](), list[int](), 0
    while True:
        while len(working) < replicas and (chunk := chunks.take()) is not None:
            working.append(chunk)
        if not working:
            break
        chunk = working.pop(draw.randrange(len(working)))
        for place in chunk.open:
            if place in poison:
                ends += 1
                lost += chunks.give_back(chunk)
                break
            chunk.done.add(place)
            done.append(place)
    assert sorted(done) == [place for place in range(count) if place not in poison]
    assert sorted(lost) == sorted(place for place in poison if place < count)
    assert ends <= 12 * len(poison)


def test_chunks_get_smaller_towards_the_end() -> None:
    chunks, sizes = Chunks(100, 16, 2, 2), []
    while (chunk := chunks.take()) is not None:
        sizes.append(len(chunk.places))
    assert sizes[0] == 16 and sizes[-1] <= 2 and sum(sizes) == 100
    assert sizes == sorted(sizes, reverse=True)


def test_an_item_that_was_beside_the_reason_gets_tries_of_its_own() -> None:
    chunks = Chunks(2, 2, 2, 1)
    for _ in range(2):
        chunk = chunks.take()
        assert chunk is not None and chunks.give_back(chunk) == ()
    chunk = chunks.take()
    assert chunk is not None and chunk.open == [0]
    assert chunks.give_back(chunk) == (), "it was alone for the first time"


def test_nothing_is_handed_out_too_far_ahead() -> None:
    chunks = Chunks(10, 4, 4, 1)
    assert chunks.take(before=4) is not None
    assert chunks.take(before=4) is None
    assert chunks.take(before=5) is not None
