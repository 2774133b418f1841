"""What the texts say of a run."""

import pathlib
import platform
import re

import keras
import numpy as np
import pytest

from keras_kicks.callbacks.run_text import configuration_text, summary_text


def model(optimizer="sgd", **arguments):
    built = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="first")], name="model")
    built.compile(optimizer, "mse", **arguments)
    return built


def rows(model, params=None, config=None):
    """Return the settings of the table, as Markdown's pipes divide it."""
    head, rule, *lines = configuration_text(model, params, config).splitlines()
    assert (head, rule) == ("| setting | value |", "| - | - |")
    return dict(re.fullmatch(r"\| (.*?) (?<!\\)\| (.*) \|", line).groups() for line in lines)


def test_the_summary_is_a_block_of_code():
    lines = summary_text(model()).splitlines()
    assert all(line.startswith("    ") for line in lines)
    assert any("first (Dense)" in line for line in lines)


def test_the_configuration_says_how_the_model_is_trained():
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9), momentum=0.75)
    found = rows(model(optimizer, jit_compile=False), {"epochs": 5, "steps": None})
    assert found["model"] == "Sequential model"
    assert found["parameters"] == "15"
    assert found["optimizer"] == "SGD"
    assert found["optimizer.momentum"] == "0.75"
    assert "ExponentialDecay" in found["optimizer.learning_rate"]
    assert found["loss"] == "mse"
    assert found["dtype_policy"] == "float32"
    assert found["jit_compile"] == "false"
    assert found["backend"] == keras.backend.backend()
    assert found["python"] == platform.python_version()
    assert found["keras"] == keras.__version__
    assert found["fit.epochs"] == "5"
    assert found["fit.steps"] == "null"


@pytest.mark.tensorflow
def test_replicas_loss_scaling_and_versions_are_said(strategy):
    import tensorflow as tf

    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        found = rows(model(keras.optimizers.SGD(0.25)))
    assert found["replicas"] == "2"
    assert found["dtype_policy"] == "mixed_float16"
    assert (found["optimizer"], found["loss_scaling"]) == ("SGD", "LossScaleOptimizer")
    assert found["optimizer.learning_rate"] == "0.25"
    assert found["tensorflow"] == tf.__version__
    keras.config.set_dtype_policy("float32")
    assert rows(model())["replicas"] == "1"


def test_losses_are_named():
    x = keras.Input((2,))
    net = keras.Model(x, {name: keras.layers.Dense(1, name=name)(x) for name in "abc"})
    own = keras.losses.Huber(name="own")
    net.compile("sgd", {"a": own, "b": keras.losses.mean_squared_error, "c": "mae"})
    assert rows(net)["loss"] == '{"a": "own", "b": "mean_squared_error", "c": "mae"}'


def test_entries_of_all_kinds_are_shown_as_what_they_are():
    entries = {
        "text": "a | b\nc",
        "number": np.float32(0.5),
        "nested": {"count": np.int64(3), (1, 2): [True, None]},
        "array": np.arange(3),
        "path": pathlib.PurePosixPath("/data/set"),
        "function": keras.activations.relu,
        7: 8,
    }
    found = rows(model(), config=entries)
    assert {name: value for name, value in found.items() if name.startswith("config.")} == {
        "config.text": r"a \| b c",
        "config.number": "0.5",
        "config.nested": '{"count": 3, "(1, 2)": [true, null]}',
        "config.array": "[0 1 2]",
        "config.path": "/data/set",
        "config.function": "relu",
        "config.7": "8",
    }


def test_secrets_are_not_written(monkeypatch):
    monkeypatch.setenv("SOME_SETTING", "a-value-of-the-environment")
    secrets = ["password", "DB_PASSWORD", "api_key", "apiKey", "OPENAI_API_KEY", "token", "hf_token", "client-secret"]
    harmless = ["max_tokens", "pad_token", "tokenizer", "key", "keyboard", "monkey"]
    entries = dict.fromkeys([*secrets, *harmless], "hunter2")
    text = configuration_text(model(), None, {**entries, "nested": {"inner": [{"password": "hunter3"}]}})
    shown = re.findall(r"config\.(\S+) \| hunter2", text)
    assert sorted(shown) == sorted(harmless)
    assert "hunter3" not in text
    assert "a-value-of-the-environment" not in text
