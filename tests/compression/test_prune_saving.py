"""A model that is saved in the middle of pruning goes on from there, to the bit."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from compression import pruned_models
from compression.pruned_models import MODELS, L, data, sequential, sparsity

from keras_kicks.compression import PolynomialDecay, prune_low_magnitude, strip_pruning
from keras_kicks.compression.prune import pruned_variables

pytestmark = pytest.mark.tensorflow
# Steps before and after the file, each with updates.
STEPS, REST = 5, 6


def prepared(model, scope="layer"):
    prune_low_magnitude(model, PolynomialDecay(0.1, 0.8, 1, STEPS + REST, frequency=2), scope=scope)
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    return model


def train(model, steps, x, y):
    for step in steps:
        model.train_on_batch(x[8 * step : 8 * step + 8], y[8 * step : 8 * step + 8])


def state(model):
    """Return weights, and the state of pruning by kernel; Keras may list the latter in another order after loading."""
    kernels = pruned_variables(model)
    added = [weight for kernel in kernels for weight in kernel.constraint.weights]
    own = [weight for weight in model.weights if not any(weight is other for other in added)]
    for kernel in kernels:
        constraint, index = kernel.constraint, kernel.constraint.index(kernel)
        own += [constraint.masks[index], constraint.thresholds[index], constraint.steps[index]]
    return own + model.optimizer.variables


def expect_equal(model, other):
    assert len(model.weights) == len(other.weights)
    for ours, theirs in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


def seeds(model):
    """Return what draws are made from, which Keras does not save."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def in_the_middle(name, path, scope="layer"):
    """Save a model in the middle, train it to the end; return it, and what it is trained with."""
    model = prepared(MODELS[name][0](), scope)
    x, y = data(model)
    train(model, range(STEPS), x, y)
    model.save(path)
    states = [state.numpy() for state in seeds(model)]
    middle = [kernel.numpy() for kernel in pruned_variables(model)]
    train(model, range(STEPS, STEPS + REST), x, y)
    # The part after the file has something to lose.
    total = sum(kernel.numpy().size for kernel in pruned_variables(model))
    added = sum((k.numpy() == 0).sum() - (m == 0).sum() for k, m in zip(pruned_variables(model), middle, strict=True))
    assert added > 0.1 * total
    return model, x, y, states


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("subclassed", "own layer")])
def test_training_goes_on_exactly(name, tmp_path):
    model, x, y, states = in_the_middle(name, tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for variable, state in zip(seeds(loaded), states, strict=True):
        variable.assign(state)
    train(loaded, range(STEPS, STEPS + REST), x, y)
    expect_equal(model, loaded)
    assert len(pruned_variables(strip_pruning(loaded))) == 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_threshold_of_all_goes_on_too(tmp_path, jit_compile):
    model, x, y, _ = in_the_middle("dense", tmp_path / "m.keras", scope="global")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    # A second copy in the same process has nothing to do with the first.
    other = keras.models.load_model(tmp_path / "m.keras")
    other.layers[0].kernel.assign(other.layers[0].kernel * 100)
    loaded.jit_compile = jit_compile
    train(other, range(STEPS, STEPS + REST), x, y)
    train(loaded, range(STEPS, STEPS + REST), x, y)
    for ours, theirs in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6 if jit_compile else 0, err_msg=ours.path)


@pytest.mark.parametrize("name", ["subclassed", "own layer"])
def test_what_keras_cannot_save_is_prepared_again(name, tmp_path):
    model = prepared(MODELS[name][0]())
    random = np.random.default_rng(0)
    x, y = random.normal(size=(96, 6)).astype("float32"), random.normal(size=(96, 2)).astype("float32")
    train(model, range(STEPS), x, y)
    model.save(tmp_path / "m.keras")
    train(model, range(STEPS, STEPS + REST), x, y)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    if pruned_variables(loaded):
        strip_pruning(loaded)
    prune_low_magnitude(loaded, PolynomialDecay(0.1, 0.8, 1, STEPS + REST, frequency=2))
    loaded.load_weights(tmp_path / "m.keras")
    train(loaded, range(STEPS, STEPS + REST), x, y)
    expect_equal(model, loaded)
    assert sparsity(pruned_variables(loaded)[0]) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_fresh_process_goes_on_exactly(scope, tmp_path):
    model, x, y, _ = in_the_middle("dense", tmp_path / "m.keras", scope)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    code = f"""
import keras, keras_kicks, numpy as np
model, data = keras.models.load_model("m.keras"), np.load("data.npz")
for step in range({STEPS}, {STEPS + REST}):
    model.train_on_batch(*(data[name][8 * step : 8 * step + 8] for name in "xy"))
np.savez("done.npz", *[variable.numpy() for variable in model.variables])
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    with np.load(tmp_path / "done.npz") as done:
        for variable, name in zip(model.variables, done, strict=True):
            np.testing.assert_array_equal(variable.numpy(), done[name], err_msg=variable.path)


def test_the_constraint_of_the_user_is_saved_too(tmp_path):
    model = prepared(sequential(L.Dense(8, kernel_constraint=keras.constraints.MaxNorm(0.5))))
    train(model, range(STEPS), *data(model))
    model.save(tmp_path / "m.keras")
    loaded = strip_pruning(keras.models.load_model(tmp_path / "m.keras"))
    assert isinstance(loaded.layers[0].kernel_constraint, keras.constraints.MaxNorm)
    assert loaded.layers[0].kernel.constraint.max_value == 0.5


def test_a_schedule_of_ones_own_is_saved(tmp_path):
    from keras_kicks.compression._tfmot import tfmot

    @keras.saving.register_keras_serializable(package="tests")
    class Ends(tfmot("sparsity.keras.pruning_schedule").PruningSchedule):
        def __init__(self, last):
            self.last = last

        def __call__(self, step):
            return step == self.last, 0.5

        def get_config(self):
            return {"last": self.last}

    model = sequential(L.Dense(8, use_bias=False))
    prune_low_magnitude(model, Ends(STEPS + 2))
    model.compile("sgd", "mse")
    x, y = data(model)
    train(model, range(STEPS - 1), x, y)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    seen = []
    for step in range(STEPS - 1, STEPS + 1):
        seen.append(sparsity(loaded.layers[0].kernel))
        train(loaded, [step], x, y)
    assert [*seen, sparsity(loaded.layers[0].kernel)] == [0, 0, 0.5]


@pytest.mark.slow
def test_a_stripped_model_needs_nothing_of_this_library(tmp_path):
    model = prepared(pruned_models.nested())
    x, y = data(model)
    train(model, range(STEPS), x, y)
    strip_pruning(model).save(tmp_path / "m.keras")
    np.savez(tmp_path / "data.npz", x=x, y=model.predict(x, verbose=0))
    code = """
import sys, keras, numpy as np
model, data = keras.models.load_model("m.keras"), np.load("data.npz")
assert not any("kicks" in name for name in sys.modules)
np.testing.assert_array_equal(model.predict(data["x"], verbose=0), data["y"])
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
