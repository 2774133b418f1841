"""What a run is, as text for TensorBoard."""

import json
import platform
import re

import keras
import numpy as np

# Whoever passes `vars(arguments)` as the configuration may pass one of these.
SECRET = re.compile(
    r"(password|passwd|passphrase|secret|credentials?|(api|access|private|secret|auth)[_-]?key"
    r"|(^|(api|access|auth|bearer|refresh|hf)[_-]?)token)$",
    re.IGNORECASE,
)


def summary_text(model):
    """Return the model's summary as a block of Markdown."""
    lines = []
    model.summary(print_fn=lambda text, **_: lines.append(text), line_length=100, expand_nested=True)
    return "\n".join(f"    {line}" for line in "\n".join(lines).splitlines())


def configuration_text(model, params, config):
    """Return how a model is trained, as a Markdown table.

    Args:
        model: A compiled model.
        params: What `fit` tells its callbacks.
        config: Dict of the user's own entries, or None; those named like a password, key or token are blotted out.
    """
    rows = {**_compiled(model), **_environment(model), **_flat("fit", params or {}), **_flat("config", config or {})}
    body = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items())
    return f"| setting | value |\n| - | - |\n{body}"


def _compiled(model):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    rows = {"model": f"{type(model).__name__} {model.name}", "parameters": f"{model.count_params():,}"}
    if optimizer is not None:
        rows["optimizer"] = type(optimizer).__name__
        if optimizer is not model.optimizer:
            rows["loss_scaling"] = type(model.optimizer).__name__
        rows.update(_flat("optimizer", optimizer.get_config()))
    rows["loss"] = keras.tree.map_structure(_name, model.loss)
    rows["metrics"] = ", ".join(model.get_metrics_result())
    rows["dtype_policy"] = model.dtype_policy.name
    rows["jit_compile"] = model.jit_compile
    rows["steps_per_execution"] = model.steps_per_execution
    return rows


def _environment(model):
    import keras_kicks

    strategy = getattr(model, "distribute_strategy", None)
    rows = {
        "replicas": 1 if strategy is None else strategy.num_replicas_in_sync,
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_kicks": keras_kicks.__version__,
    }
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        rows["tensorflow"] = tf.__version__
    return rows


def _flat(prefix, entries):
    return {f"{prefix}.{name}": value for name, value in _plain(entries).items()}


def _name(value):
    if value is None or isinstance(value, str):
        return value
    return getattr(value, "name", None) or getattr(value, "__name__", type(value).__name__)


def _plain(value):
    """Return a value as JSON knows it: numbers as numbers, what is left as `str` shows it."""
    if isinstance(value, dict):
        return {str(name): "***" if SECRET.search(str(name)) else _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    return getattr(value, "__name__", None) or str(value)


def _cell(value):
    text = value if isinstance(value, str) else json.dumps(_plain(value))
    return text.replace("|", "\\|").replace("\n", " ")
