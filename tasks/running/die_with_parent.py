"""A process that ends with the one that started it, in order and within four seconds.

Nothing of ``redistill`` is imported here, although it has the same call: a fork server's process uses this, and its forks would keep that module.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
_END_S = 4


def die_with_parent() -> None:
    """End with the process that started us: a killed flow must not leave a training run behind (Linux; best effort)."""
    signal.signal(signal.SIGTERM, _end)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(*_: object) -> None:
    """Leave as if by ``sys.exit``, within four seconds.

    Python drops an exception that is raised while a destructor runs, and the process would go on to its end. Then the alarm ends it.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_END_S)
    sys.exit(143)
