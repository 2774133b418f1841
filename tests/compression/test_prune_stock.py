"""Pruning against stock TFMOT on Keras 2: from the same weights, on the same batches, by the same schedule."""

import keras
import numpy as np
import pytest
import stock

from keras_kicks import compression
from keras_kicks.compression._tfmot import tfmot

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
STEPS = 48
DECAY = {"initial_sparsity": 0.1, "final_sparsity": 0.75, "begin_step": 1, "end_step": 40, "frequency": 3}
CONSTANT = {"target_sparsity": 0.6, "begin_step": 5, "end_step": -1, "frequency": 7}
CASES = {
    "decay": ("PolynomialDecay", DECAY, {}),
    "constant": ("ConstantSparsity", CONSTANT, {}),
    "blocks of averages": ("PolynomialDecay", DECAY, {"block_size": [2, 2], "block_pooling_type": "AVG"}),
    # A block that no kernel is a multiple of.
    "blocks of maxima": ("PolynomialDecay", DECAY, {"block_size": [5, 2], "block_pooling_type": "MAX"}),
    "2 by 4": ("ConstantSparsity", CONSTANT, {"sparsity_m_by_n": [2, 4]}),
}
OPTIMIZERS = {"SGD": 0.1, "Adam": 0.01}


def make_model():
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((12,)), *layers])


def train(model, x, y):
    """Return losses, and what is known after each step."""
    record = {"losses": [], **{f"{what}{i}": [] for what in ("kernel", "bias", "mask") for i in range(3)}}
    for batch in zip(x, y, strict=True):
        model.reset_metrics()
        record["losses"].append(model.train_on_batch(*batch))
        for index, layer in enumerate(model.layers):
            record[f"kernel{index}"].append(layer.kernel.numpy())
            record[f"bias{index}"].append(layer.bias.numpy())
            record[f"mask{index}"].append(layer.kernel_constraint.masks[0].numpy())
    return {what: np.array(values) for what, values in record.items()}


@pytest.fixture(scope="module")
def arrays():
    random = np.random.default_rng(0)
    x = random.normal(size=(STEPS, 32, 12)).astype("float32")
    y = random.integers(0, 3, size=(STEPS, 32))
    shapes = [(12, 16), (16,), (16, 8), (8,), (8, 3), (3,)]
    weights = {f"weight{i}": random.normal(0, 0.3, shape).astype("float32") for i, shape in enumerate(shapes)}
    return {"x": x, "y": y, **weights}


@pytest.fixture(scope="module")
def theirs(arrays):
    return stock.run("pruning", arrays, cases=CASES, optimizers=OPTIMIZERS)


@pytest.mark.parametrize(("optimizer", "jit_compile"), [("SGD", False), ("Adam", True)])
@pytest.mark.parametrize("case", CASES)
def test_losses_weights_and_masks_are_those_of_tfmot(case, optimizer, jit_compile, arrays, theirs):
    """TFMOT prunes at the begin of step s + 1 what is pruned here at the end of step s, so that is what is compared."""
    schedule, numbers, arguments = CASES[case]
    model = make_model()
    model.set_weights([arrays[f"weight{index}"] for index in range(6)])
    compression.prune_low_magnitude(model, getattr(compression, schedule)(**numbers), **arguments)
    optimize = getattr(keras.optimizers, optimizer)(OPTIMIZERS[optimizer])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimize, loss, jit_compile=jit_compile)
    ours = train(model, arrays["x"], arrays["y"])
    expected = {what: theirs[f"{case}/{optimizer}/{what}"] for what in ours}
    np.testing.assert_allclose(ours["losses"], expected["losses"], rtol=0, atol=1e-6)
    for index in range(3):
        mask = expected[f"mask{index}"][1:]
        np.testing.assert_array_equal(ours[f"mask{index}"][:-1], mask.astype(bool))
        np.testing.assert_allclose(ours[f"kernel{index}"][:-1], mask * expected[f"kernel{index}"][:-1], atol=1e-6)
        np.testing.assert_allclose(ours[f"bias{index}"], expected[f"bias{index}"], rtol=0, atol=1e-6)
    # The schedules do something: masks of TFMOT change.
    assert (expected["mask0"][-1] == 0).mean() >= 0.5
    if case == "2 by 4":
        follows = tfmot("sparsity.keras.pruning_utils").is_pruned_m_by_n
        assert all(follows(layer.kernel.value, (2, 4)) for layer in compression.strip_pruning(model).layers)
