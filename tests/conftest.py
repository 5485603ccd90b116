"""What every test may use. Heavy imports stay inside fixtures, so that tests without torch start at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The first example of a session pays for lazy imports on a busy machine, hence no deadline and no "too slow".
settings.register_profile(
    "redistill", deadline=None, max_examples=50, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("redistill")


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A four-layer random-weight Llama with its tokenizer, in hub layout. Never write into it."""
    import torch

    from tests.tiny import make_tiny_model

    torch.set_num_threads(1)  # with matrices this small, two threads only wait for each other

    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
