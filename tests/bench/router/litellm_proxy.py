"""LiteLLM's proxy before the stub, in an environment of its own: its versions do not fit ours (docs/adr/0040-router-on-aiohttp.md), and it is no dependency."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.router.processes import running

PACKAGE = "litellm[proxy]"
_INSTALL_S = 900.0
_START_S = 120.0
_CONFIG = """\
model_list:
  - model_name: m
    litellm_params: {{model: openai/m, api_base: "{address}/v1", api_key: none}}
litellm_settings: {{telemetry: false, num_retries: 0}}
"""


def installed(folder: Path) -> str:
    """Install it into a virtual environment, unless it is there; returns its version. Ends the benchmark with a message if it cannot be installed in time."""
    python = folder / "bin" / "python"
    try:
        if not (folder / "bin" / "litellm").is_file():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=_INSTALL_S)
            subprocess.run([str(python), "-m", "pip", "install", "-q", PACKAGE], check=True, timeout=_INSTALL_S)
        shown = subprocess.run([str(python), "-m", "pip", "show", "litellm"], check=True, timeout=60.0, capture_output=True, text=True)
    except (subprocess.SubprocessError, OSError) as error:
        sys.exit(f"error: {PACKAGE} cannot be installed into {folder} ({error}); run the benchmark without --litellm")
    return next(line.removeprefix("Version: ") for line in shown.stdout.splitlines() if line.startswith("Version: "))


@contextmanager
def proxy(folder: Path, address: str, config: Path) -> Iterator[int]:
    """One worker, as the router has one process."""
    config.write_text(_CONFIG.format(address=address), encoding="utf-8")
    command = [str(folder / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", "{port}", "--num_workers", "1"]
    # Without a key for callers, as the router of the benchmark: it listens at loopback.
    open_to_all = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_DOCS": "True"}
    with running(command, {**os.environ, **open_to_all, **quiet}, "LiteLLM", _START_S, silent=True) as port:
        yield port
