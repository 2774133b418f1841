"""Quantization-aware training against stock TFMOT on Keras 2, from the same weights on the same batches."""

import keras
import numpy as np
import pytest
import stock
from compression import quantized_models
from compression.test_fake_quantizer import rounded

from keras_kicks.compression import quantize_model

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
RATES = {"SGD": 0.01, "Adam": 0.001}
TRAINED = [("chain", "SGD"), ("chain", "Adam"), ("branches", "SGD"), ("separable", "Adam")]
RUNS = [(name, optimizer, RATES[optimizer]) for name, optimizer in TRAINED]
# With a rate of zero, ranges are all that training changes.
RUNS.append(("dense_relu", "SGD", 0.0))


def built(name):
    """Return a model with the same weights whatever was made before it."""
    keras.utils.set_random_seed(1)
    return quantized_models.build(keras, name)


@pytest.fixture(scope="module")
def results():
    """Initial weights, and the results of ours and of TFMOT's training, by `model/optimizer/what`."""
    models = {name: built(name) for name in {name for name, _, _ in RUNS}}
    initial = {f"{name}/{key}": w for name, m in models.items() for key, w in quantized_models.weights(m).items()}
    ours = {}
    for name, optimizer, rate in RUNS:
        quantized = quantize_model(models[name])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=name in quantized_models.LOGITS)
        quantized.compile(getattr(keras.optimizers, optimizer)(rate), loss, jit_compile=False)
        found = quantized_models.train(quantized)
        ours |= {f"{name}/{optimizer}/{key}": value for key, value in found.items()}
    return initial, ours, stock.run("quantization", initial, runs=RUNS)


@pytest.mark.parametrize(("name", "optimizer"), TRAINED)
def test_losses_and_outputs_are_those_of_tfmot(results, name, optimizer):
    """Within 1e-6 in all steps.

    Where a value is halfway between two of its 256, the last bit of a sum decides. Sums of many branches may have it
    otherwise on another processor; that is seen in one step alone.
    """
    allowed = 2 if name == "branches" else 0
    _, ours, theirs = results
    for what in ("losses", "outputs"):
        key = f"{name}/{optimizer}/{what}"
        difference = np.abs(ours[key] - theirs[key]).reshape(quantized_models.STEPS, -1).max(axis=1)
        assert np.sum(difference > 1e-6) <= allowed
        assert difference.max() < 0.02


def test_the_kernel_before_a_relu_layer_is_rounded_where_tfmot_leaves_it(results):
    """A purposeful difference: the file that is deployed has 8 bits for this kernel too."""
    initial, ours, theirs = results
    weights = {key.removeprefix("dense_relu/"): w for key, w in initial.items() if key.startswith("dense_relu/")}
    as_it_is, in_8_bits = (dense_relu(weights, rounds) for rounds in (False, True))
    assert differing(theirs["dense_relu/SGD/outputs"], as_it_is) < 0.02
    assert differing(ours["dense_relu/SGD/outputs"], in_8_bits) < 0.02
    assert differing(as_it_is, in_8_bits) > 0.2


def differing(a, b):
    """Return the share of outputs that are not the same of the 256 values."""
    return np.mean(np.abs(a - b) > 1e-5)


def dense_relu(weights, rounds):
    """Return the outputs of inference on the first batch after each step, by NumPy."""
    kernel, bias = weights["hidden/0"], weights["hidden/1"]
    kernel = symmetric(kernel) if rounds else kernel
    batches = np.split(quantized_models.data()[0].reshape(-1, 128), quantized_models.STEPS)
    ranges = {"input": (0.0, 0.0), "hidden": (-6.0, 6.0), "logits": (-6.0, 6.0)}

    def run(x, training):
        def within(name, y):
            if training:
                low, high, least, most = *ranges[name], min(y.min(), 0), max(y.max(), 0)
                moved = (0.999 * low + 0.001 * least, 0.999 * high + 0.001 * most)
                ranges[name] = (min(low, least), max(high, most)) if name == "input" else moved
            return rounded(y, *ranges[name])

        hidden = within("hidden", np.maximum(within("input", x) @ kernel + bias, 0))
        return within("logits", hidden @ symmetric(weights["logits/0"]) + weights["logits/1"])

    outputs = []
    for x in batches:
        run(x, True)
        outputs.append(run(batches[0], False))
    return np.array(outputs)


def symmetric(kernel):
    return rounded(kernel, -np.abs(kernel).max(), np.abs(kernel).max(), narrow=True)
