"""What children are told by their environment reaches the library that reads it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from redistill.runtime.environment import child_environment


@pytest.mark.parametrize(("user", "spins"), [(None, "0"), ("500", "500")])
def test_openmp_threads_of_children_do_not_spin_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch, user: str | None, spins: str
) -> None:
    """Asked of the runtime that PyTorch ships: it prints its settings when it is loaded."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.submodule_search_locations
    runtimes = sorted((Path(spec.submodule_search_locations[0]) / "lib").glob("libgomp*.so*"))
    if not runtimes:
        pytest.skip("this build of PyTorch has another OpenMP runtime than libgomp")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if user is not None:
        monkeypatch.setenv("GOMP_SPINCOUNT", user)
    command = [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(runtimes[0])]
    done = subprocess.run(command, env={**child_environment(), "OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
