"""Which texts share bands of their sketches with a text, among those that were added so far."""

from __future__ import annotations

import numpy as np


class SharedBands:
    """An index in flat arrays: at most 16 bytes for each band of a text, where a table of Python objects takes hundreds.

    All texts are known from the start, so every group of texts with an equal band gets its place beforehand, and bands that only one text has get none.
    """

    def __init__(self, bands_NB: np.ndarray) -> None:
        """``bands_NB`` is overwritten: it is the largest array of all."""
        self._group_NB = bands_NB.view(np.int32)
        sizes, groups = [np.zeros(0, np.int64)], 0
        for band in range(bands_NB.shape[1]):
            _, inverse, counts = np.unique(bands_NB[:, band], return_inverse=True, return_counts=True)
            shared = counts > 1
            self._group_NB[:, band] = np.where(shared, groups + np.cumsum(shared) - 1, -1)[inverse]
            sizes.append(counts[shared])
            groups += int(shared.sum())
        sizes_G = np.concatenate(sizes)
        self._begin_G = np.cumsum(sizes_G) - sizes_G
        self._filled_G = np.zeros(groups, np.int32)
        self._members = np.empty(int(sizes_G.sum()), np.int32)

    def add(self, text: int) -> None:
        groups = self._groups(text)
        self._members[self._begin_G[groups] + self._filled_G[groups]] = text
        self._filled_G[groups] += 1

    def candidates(self, text: int) -> np.ndarray:
        """The added texts that share at least two bands with this one, in ascending order."""
        groups = self._groups(text)
        counts = self._filled_G[groups]
        groups, counts = groups[counts > 0], counts[counts > 0]
        if len(groups) < 2:
            return np.zeros(0, np.int32)
        # The places of all members, one range after the other.
        ends = counts.cumsum()
        places = np.arange(ends[-1]) + np.repeat(self._begin_G[groups] - ends + counts, counts)
        members = self._members[places]
        members.sort()
        twice: np.ndarray = members[1:][members[1:] == members[:-1]]
        # Not ``np.unique``, which takes most of the time on arrays as short as these.
        return twice if len(twice) < 2 else twice[np.append(True, twice[1:] != twice[:-1])]

    def _groups(self, text: int) -> np.ndarray:
        groups: np.ndarray = self._group_NB[text]
        shared: np.ndarray = groups[groups >= 0]
        return shared
