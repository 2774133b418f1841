"""What every optimizer owes, over the table."""

import inspect
import json

import keras
import numpy as np
import pytest
from optimizers.table import OPTIMIZERS, SHAPES, apply, arrays, close, numbers, shapes_of, variables

import keras_kicks.optimizers as o

over_all = pytest.mark.parametrize("name", OPTIMIZERS)
BATCHES = "Keras gives a schedule the number of batches, and not that of updates."
FAST = "The average is the inner optimizer's, of the fast weights; these go back at times."
TWO_DIMENSIONS = "The nuclear norm is that of a matrix."


def trained(optimizer, name, steps):
    targets = variables(*shapes_of(name))
    for gradients in steps:
        apply(optimizer, gradients, targets)
    return numbers(targets)


def test_every_public_one_is_in_the_table():
    made = [make() for make in OPTIMIZERS.values()]
    seen = {type(optimizer) for optimizer in made}
    for optimizer in made:
        seen |= {type(transform) for transform in getattr(optimizer, "transforms", [])}
    public = {value for value in vars(o).values() if inspect.isclass(value)}
    assert public - seen == {o.CyclicalLearningRate}


@over_all
def test_config_is_complete_and_makes_the_same(name):
    optimizer = OPTIMIZERS[name]()
    config = optimizer.get_config()
    assert json.loads(json.dumps(config)) == config
    arguments = set(inspect.signature(type(optimizer).__init__).parameters) - {"self", "kwargs"}
    assert arguments <= set(config)
    other = keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(optimizer))))
    assert type(other) is type(optimizer)
    assert other.get_config() == config
    steps = arrays(*shapes_of(name), seed=1, steps=4)
    close(trained(optimizer, name, steps), trained(other, name, steps), 0)


def model_with(optimizer):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1, use_bias=False)]
    )
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def data(rows=48):
    x, y = arrays((rows, 5), (rows, 1), seed=2)
    return x, y


def state_of(optimizer):
    return [keras.ops.convert_to_numpy(v) for v in optimizer.variables]


@over_all
def test_interrupted_training_goes_on_as_if_it_was_not(name, tmp_path):
    """Trained, saved, loaded and trained again, three steps each."""
    x, y = data()
    whole = model_with(OPTIMIZERS[name]())
    for _ in range(2):
        whole.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    part = model_with(OPTIMIZERS[name]())
    part.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    part.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    close(loaded.get_weights(), whole.get_weights(), 0 if keras.backend.backend() != "jax" else 1e-6)
    close(state_of(loaded.optimizer), state_of(whole.optimizer), 1e-6)


@over_all
@pytest.mark.parametrize("missing", [0, 1])
def test_a_variable_without_gradient_stays(name, missing):
    if "nuclear" in name:
        pytest.skip(TWO_DIMENSIONS)
    targets, optimizer = variables(*SHAPES), OPTIMIZERS[name]()
    alone = variables(*SHAPES)[1 - missing : 2 - missing]
    other, first = OPTIMIZERS[name](), numbers(targets)
    for gradients in arrays(*SHAPES, seed=1, steps=4):
        gradients[missing] = None
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            apply(optimizer, gradients, targets)
        apply(other, [gradients[1 - missing]], alone)
    np.testing.assert_array_equal(numbers(targets)[missing], first[missing])
    if "Noise" not in name:
        close(numbers(targets)[1 - missing : 2 - missing], numbers(alone))


@pytest.mark.parametrize("name", ["Momentum", "AdaGrad", "RMSProp"])
def test_a_step_without_a_gradient_is_not_remembered(name):
    """The state of a variable stays too, also where small variables are laid out in one vector."""
    targets, optimizer = variables(*SHAPES), OPTIMIZERS[name]()
    steps = arrays(*SHAPES, seed=1, steps=4)
    alone = trained(OPTIMIZERS[name](), name, [steps[0], steps[3]])
    for number, (kernel, bias) in enumerate(steps):
        if number in (0, 3):
            apply(optimizer, [kernel, bias], targets)
            continue
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            apply(optimizer, [kernel, None], targets)
    close(numbers(targets)[1:], alone[1:])


@over_all
def test_zero_gradients_are_finite(name):
    zeros = [np.zeros(shape, "float32") for shape in shapes_of(name)]
    for array in trained(OPTIMIZERS[name](), name, [zeros] * 3):
        assert np.isfinite(array).all()


@over_all
def test_accumulated_gradients_are_their_mean(name):
    if "scheduled" in name:
        pytest.skip(BATCHES)
    steps = arrays(*shapes_of(name), seed=1, steps=6)
    means = [[(a + b) / 2 for a, b in zip(*steps[i : i + 2], strict=True)] for i in (0, 2, 4)]
    optimizer = OPTIMIZERS[name](gradient_accumulation_steps=2)
    got = trained(optimizer, name, steps)
    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 3
    close(got, trained(OPTIMIZERS[name](), name, means), 1e-5)
    if hasattr(optimizer, "clip_rate"):
        assert int(keras.ops.convert_to_numpy(optimizer._remembered["steps"])) == 3


@over_all
def test_running_averages_are_those_of_keras(name):
    if "Lookahead" in name:
        pytest.skip(FAST)
    targets, steps = variables(*shapes_of(name)), arrays(*shapes_of(name), seed=1, steps=4)
    plain, path = variables(*shapes_of(name)), []
    optimizer, other = OPTIMIZERS[name](use_ema=True, ema_momentum=0.7), OPTIMIZERS[name]()
    for gradients in steps:
        apply(optimizer, gradients, targets)
        apply(other, gradients, plain)
        path.append(numbers(plain))
    close(numbers(targets), numbers(plain))
    average = path[0]
    for values in path[1:]:
        average = [0.7 * a + 0.3 * v for a, v in zip(average, values, strict=True)]
    if "Averaging" not in name:
        optimizer.finalize_variable_values(targets)
        close(numbers(targets), average, 1e-5)


@over_all
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_dtypes_stay(name, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is told to.")
    targets, optimizer = variables(*shapes_of(name), dtype=dtype), OPTIMIZERS[name]()
    optimizer.build(targets)
    dtypes = [v.dtype for v in optimizer.variables]
    steps = arrays(*shapes_of(name), seed=1, steps=3)
    for gradients in steps:
        apply(optimizer, [keras.ops.cast(g, dtype) for g in gradients], targets)
    assert {v.dtype for v in targets} == {dtype}
    assert [v.dtype for v in optimizer.variables] == dtypes
    if isinstance(optimizer, o.Chain):
        tolerance = {"bfloat16": 5e-2, "float16": 5e-3, "float64": 1e-5}[dtype]
        close(numbers(targets), trained(OPTIMIZERS[name](), name, steps), tolerance)


def test_narrow_variables_accumulate():
    """Both branches of a step, the update and none, have the variables' dtype."""
    targets, optimizer = variables(*SHAPES, dtype="bfloat16"), o.Adam(0.1, gradient_accumulation_steps=2)
    first = numbers(targets)
    for number, gradients in enumerate(arrays(*SHAPES, seed=1, steps=2)):
        assert all((a == b).all() for a, b in zip(numbers(targets), first, strict=True)), number
        apply(optimizer, [keras.ops.cast(g, "bfloat16") for g in gradients], targets)
    assert {v.dtype for v in targets} == {"bfloat16"}
    # Adam's first step has the length of the learning rate in every element.
    for before, after in zip(first, numbers(targets), strict=True):
        np.testing.assert_allclose(np.abs(after - before), 0.1, rtol=0.1)


def test_no_other_variables():
    for name in ("Adam", "Chain, ClipByNorm"):
        optimizer = OPTIMIZERS[name]()
        trained(optimizer, name, arrays(*SHAPES, seed=1, steps=1))
        with pytest.raises(ValueError, match=r"expected the variables that it was built on; got variables=\['kernel"):
            apply(optimizer, arrays(*SHAPES, seed=1), variables(*SHAPES, seed=5))
