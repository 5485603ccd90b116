"""Turns off vendor telemetry in this process and in child processes.

Each vendor reads its own variable with its own value; some libraries ignore ``DO_NOT_TRACK``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

DEFAULTS = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    # Prefect's own server needs longer than its default 20 s on a small or busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "redistill",
    "GIT_PYTHON_REFRESH": "quiet",
    # Progress bars of other libraries, redrawn in a log file, would hide our own progress line.
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # With MLflow's default of seven retries, it takes eight minutes until an error says that the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    # And its default of 120 s for each answer makes a server that hangs in the middle of a command hold it for eight minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Files of versions come through MLflow's server. Otherwise MLflow asks for addresses of the server's object store, which a client may not be able to reach:
    # it then tries for minutes. With "true", large weights come faster where every machine reaches the store.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "LMEVAL_LOG_LEVEL": "WARNING",
    # glibc's heap in huge pages where the kernel offers them on request: faulting in small ones is a fifth of a training step.
    # Read when a process starts, so it affects child processes only.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # OpenMP threads (PyTorch's runtime is libgomp) sleep while they wait for each other. Threads that spin take time from other processes, and if one of
    # them loses its core, all others spin until it comes back. `python -m tests.bench.threads` measures it.
    "GOMP_SPINCOUNT": "0",
}
"""Variables that a user may override: with ``HF_HUB_OFFLINE=0``, hub ids can be downloaded."""


def vllm_environment(device: str) -> dict[str, str]:
    """What vLLM reads while it is loaded, unless the caller's environment says otherwise, on ``cpu`` or ``cuda``."""
    settings = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
    # Also with --enforce-eager, the first request for log-probabilities compiles one small function of the sampler, which needs a C++ compiler: without g++ the engine ends.
    return settings | ({"TORCHDYNAMO_DISABLE": "1"} if device == "cpu" else {})


def silence() -> None:
    """Set these variables in this process, before any vendor's library is imported."""
    os.environ.update(QUIET)
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)


def child_environment() -> dict[str, str]:
    """The environment of a child process, such as a stage: without telemetry, with our interpreter first, and the project importable.

    ``CI`` stops DVC's updater, which has no other variable.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    modules = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    return {**DEFAULTS, **os.environ, **QUIET, "CI": "1", "PATH": path, "PYTHONPATH": modules}
