"""How a student is made: cut from a base, copied, or made smaller by configuration.

Pruning keeps embeddings, head and a choice of layers. Which ones matters: early neighbours plus the last two lose less
than even spacing, since the first layers build the token representations that copying needs and the last two write
the output (Gromov et al. 2024 found the deep middle the most dispensable).
"""

from __future__ import annotations

from typing import Any

from redistill.errors import ConfigError
from redistill.models.loading import model_of
from redistill.models.params import PruneParams, StudentParams


def chosen_layers(total: int, layers: PruneParams) -> list[int]:
    """Indices of the kept layers, ascending.

    Raises:
        ConfigError: more layers than the base has, or an index outside it.
    """
    if layers.listed is not None:
        beyond = [i for i in layers.listed if i >= total]
        if beyond or sorted(set(layers.listed)) != list(layers.listed):
            raise ConfigError(
                f"student.layers.listed={list(layers.listed)}: list each layer once, in ascending order, from 0 to {total - 1} (the base has {total} layers)"
            )
        return list(layers.listed)
    keep = layers.keep or 0
    if keep > total:
        raise ConfigError(
            f"student.layers.keep={keep}, but the base has only {total} layers; a student cannot have more layers than its base; lower keep"
        )
    if layers.choice == "even":
        return sorted({round(i * (total - 1) / max(1, keep - 1)) for i in range(keep)})
    if layers.choice == "first_and_last":
        head = (keep + 1) // 2
        return [*range(head), *range(total - (keep - head), total)]
    last = min(2, keep)
    return [*range(keep - last), *range(total - last, total)]


def prune(model: Any, layers: list[int]) -> Any:
    """Keep only these decoder layers, renumbered, with a config that says so.

    Every layer's attention carries its own index for the cache, and some configs list a type per layer; both must
    be updated. Otherwise generation fails, or reads the cache of another layer without an error.

    Raises:
        ConfigError: a model with another layout.
    """
    import torch

    decoder = model.get_decoder()
    if not isinstance(getattr(decoder, "layers", None), torch.nn.ModuleList):
        raise ConfigError(
            f"{type(model).__name__} does not keep its layers where redistill can cut them; use student.init: copy, or init: config with config_overrides"
        )
    kept = [decoder.layers[i] for i in layers]
    for index, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
    decoder.layers = torch.nn.ModuleList(kept)
    config = model.config
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in layers]
    config.num_hidden_layers = len(layers)
    return model


def build_student(base: Any, params: StudentParams) -> Any:
    """The untrained student from its loaded base model."""
    if params.init == "copy":
        return base
    if params.init == "prune":
        assert params.layers is not None
        return prune(base, chosen_layers(base.config.num_hidden_layers, params.layers))
    student = smaller(base.config, params.config_overrides, params.seed)
    student.generation_config = base.generation_config
    return student


def smaller(config: Any, overrides: dict[str, int], seed: int) -> Any:
    """A randomly initialised student of the base's architecture with a smaller configuration."""
    import copy

    from transformers import set_seed

    config = copy.deepcopy(config)
    for key, value in overrides.items():
        if not hasattr(config, key):
            raise ConfigError(f"student.config_overrides.{key}: {type(config).__name__} has no such field; correct the name or remove it")
        if key == "num_hidden_layers" and value > config.num_hidden_layers:
            raise ConfigError(
                f"student.config_overrides.num_hidden_layers={value}, but the base has only {config.num_hidden_layers} layers; lower it"
            )
        setattr(config, key, value)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    set_seed(seed)
    return model_of(config)
