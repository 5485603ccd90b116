"""The verdict with hysteresis: one window decides nothing.

Windows share one reference, so a reference that is unusual by chance raises the same measure in many windows. That is why acting needs more than small
p-values: the same measure must be beyond its limit in several windows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from redistill.serving.drift.params import DriftParams
from redistill.serving.drift.types import Verdict, Window


def next_verdict(windows: Sequence[Window], params: DriftParams) -> Verdict:
    """The verdict after the last window. The others have the verdicts that they had; there is at least one.

    ``calm → warn`` where one measure is raised in ``warn_after`` of the last ``of_windows`` windows; ``warn → act`` where one is beyond its limit in ``act_after`` of
    them; back to ``calm`` after ``calm_after`` windows in a row in which nothing is raised, and what was raised before is judged again.
    """
    before: Verdict = windows[-2].verdict if len(windows) > 1 else "calm"
    recent = windows[-params.of_windows :]
    if before != "calm" and _calm_again(windows, params):
        return "calm"
    if before == "act":
        return "act"
    if before == "warn":
        return "act" if most(recent, lambda w: w.large) >= params.act_after else "warn"
    return "warn" if most(recent, lambda w: w.raised) >= params.warn_after else "calm"


def most(windows: Sequence[Window], names: Callable[[Window], set[str]]) -> int:
    """In how many windows one measure is named, for the one that is named most often."""
    counts = Counter(name for window in windows for name in names(window))
    return max(counts.values(), default=0)


def _calm_again(windows: Sequence[Window], params: DriftParams) -> bool:
    last = windows[-params.calm_after :]
    # The windows since the verdict left calm, and those that made it do so.
    first = next((i for i in range(len(windows) - 2, -1, -1) if windows[i].verdict == "calm"), -1)
    about: set[str] = set().union(*(w.raised for w in windows[max(0, first - params.of_windows + 1) :]))
    return len(last) == params.calm_after and all(not w.raised and w.judged and about <= w.judged for w in last)
