"""What every component owes, as functions of a case of the table."""

import inspect
import json
import warnings

import keras
import numpy as np
import pytest
import subjects
from cases import CASES
from keras import ops

from keras_kicks.ops.keras_mask import get_mask, set_mask

BACKEND = keras.backend.backend()

# What a kind of component cannot owe, and why.
NOT_OWED = {
    "loss": {
        "shapes": "A loss returns a scalar.",
        "save_and_load": "A loss holds no weights; a model that is compiled with it is saved in its file's tests.",
    },
    "function": {
        "config": "A function has no config.",
        "save_and_load": "A function has no weights.",
        "mixed_precision": "A function has no dtype policy.",
        "mask": "A function of labels sees no mask.",
        "replicas": "A function has no weights to train.",
        "shapes": "A function computes no symbolic shape.",
    },
    "regularizer": {
        "shapes": "A regularizer returns a scalar.",
        "mixed_precision": "A regularizer has no dtype policy: it gets weights in float32.",
        "mask": "A regularizer sees weights.",
    },
    "metric": {
        "shapes": "A metric returns a scalar.",
        "save_and_load": "A compiled model is saved with it in its file's tests.",
        "compiled": "It adds up over calls; a compiled model runs it in its file's tests.",
        "mixed_precision": "A metric adds up in float32.",
        "mask": "Keras makes weights of the mask.",
        "gradient": "A metric has none.",
        "replicas": "Keras adds up over replicas; its file tests what it passes on.",
    },
    "constraint": {
        "shapes": "A constraint computes no symbolic shape.",
        "mixed_precision": "A constraint has no dtype policy: it gets weights in float32.",
        "mask": "A constraint sees weights.",
        "gradient": "A constraint is applied between steps, and not differentiated.",
    },
    "model": {
        "gradient": "The gradient of a model's loss is tested in its file, against training by hand.",
        "mask": "The model it holds passes the mask; its file tests what its losses make of it.",
    },
}


def over_cases(check):
    """Run a check over the cases, but for those that say why they skip it."""
    parameters = []
    for name, case in CASES.items():
        reasons = {**NOT_OWED.get(case.kind, {}), **case.skips}
        reason = reasons.get("every") or reasons.get(check)
        parameters.append(pytest.param(case, id=name, marks=[pytest.mark.skip(reason=reason)] if reason else []))
    return pytest.mark.parametrize("case", parameters)


def config(case):
    """The config is JSON, holds every argument of `__init__`, and rebuilds the component, also a mixed one."""
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        component = subjects.make_alone(case)
        first = component.get_config()
        text = json.dumps(first)
        again = type(component).from_config(json.loads(text))
        assert json.loads(json.dumps(again.get_config())) == json.loads(text)
        assert json.dumps(first) == text, "from_config changed its argument"
        parameters = inspect.signature(type(component).__init__).parameters.values()
        named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}
        assert named <= set(first)
        if isinstance(component, keras.layers.Layer):
            assert again.dtype_policy == component.dtype_policy


def save_and_load(case, tmp_path):
    """A model with the component is saved and loaded by name alone: the same outputs, the same draws after it."""
    model, (x, _) = subjects.model_of(case, subjects.make(case))
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    for training in (False, True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(loaded(x, training=training)), ops.convert_to_numpy(model(x, training=training))
        )


def shapes(case):
    """The symbolic shape, with lengths unknown, is that of `compute_output_shape` and that of real outputs."""
    component, inputs = subjects.make(case), case.inputs()
    arguments = subjects.symbols(inputs, case.free)
    symbolic = tuple(subjects.call(case, component, arguments).shape)
    computed = component.compute_output_shape(*(tuple(argument.shape) for argument in arguments))
    assert symbolic == tuple(computed)
    for training in (False, True):
        eager = tuple(subjects.call(case, component, inputs, training).shape)
        assert len(eager) == len(symbolic)
        assert all(length in (None, size) for length, size in zip(symbolic, eager, strict=True))


def compiled(case):
    """A call gives the same values eagerly, in a graph and compiled by XLA."""
    inputs = case.inputs()
    for training in (False, True):
        expected = subjects.array(subjects.call(case, subjects.built(case), inputs, training))
        for run in subjects.compilers():
            component = subjects.built(case)
            got = subjects.array(run(case, component, inputs, training))
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def mixed_precision(case, policy):
    """The output has the compute dtype, weights stay float32, and values are those of float32 within rounding."""
    inputs = case.inputs()
    keras.config.set_dtype_policy(policy)
    narrow = subjects.built(case)
    half = keras.dtype_policies.get(policy).compute_dtype
    inputs = [_rounded(x, half) for x in inputs]
    keras.config.set_dtype_policy("float32")
    wide = subjects.built(case)
    for variable in subjects.trainable(narrow):
        assert variable.dtype == "float32"
    for training in (False, True):
        if case.kind == "loss":
            got = narrow(inputs[0], ops.cast(inputs[1], half))
            assert keras.backend.standardize_dtype(got.dtype) == "float32"
        else:
            got = subjects.call(case, narrow, inputs, training)
            assert keras.backend.standardize_dtype(got.dtype) == narrow.compute_dtype
        expected = subjects.array(subjects.call(case, wide, inputs, training))
        # Sums of a few rounded products: some units in the last place of the largest value.
        unit = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[half]
        np.testing.assert_allclose(subjects.array(got), expected, rtol=0, atol=8 * unit * np.abs(expected).max())


def mask(case):
    """The mask of the first input is passed on, dropped, or consumed by the loss, as declared."""
    inputs = case.inputs()
    if case.kind == "loss":
        counts = np.arange(len(inputs[0])) % 2 == 0
        predictions = ops.convert_to_tensor(inputs[1])
        set_mask(predictions, ops.convert_to_tensor(counts))
        expected = subjects.make(case)(inputs[0][counts], inputs[1][counts])
        got = subjects.make(case)(inputs[0], predictions)
        np.testing.assert_allclose(ops.convert_to_numpy(got), ops.convert_to_numpy(expected), rtol=1e-5)
        return
    x = ops.convert_to_tensor(inputs[0])
    given = ops.convert_to_tensor(np.random.default_rng(2).random(x.shape[:2] if x.ndim > 2 else x.shape[:1]) < 0.5)
    set_mask(x, given)
    component = subjects.built(case)
    with warnings.catch_warnings():
        if case.mask == "destroyed":
            warnings.filterwarnings("ignore", ".*does not support masking", UserWarning)
        y = subjects.call(case, component, [x, *inputs[1:]])
    if case.mask == "passed":
        np.testing.assert_array_equal(ops.convert_to_numpy(get_mask(y)), ops.convert_to_numpy(given))
    else:
        assert get_mask(y) is None


def gradient(case):
    """A finite gradient reaches every weight and input, and agrees with a difference quotient in all of them."""
    # Keras computes in float64 throughout on TensorFlow alone.
    double = case.double and BACKEND == "tensorflow"
    component = subjects.built(case, "float64" if double else None)
    inputs = [x.astype("float64") if double and x.dtype == np.float32 else x for x in case.inputs()]
    for training in (False, True):
        _, gradients, places = subjects.value_and_gradients(case, component, inputs, training)
        gradients = [subjects.array(g) for g in gradients]
        for g in gradients:
            assert np.isfinite(g).all()
            assert np.abs(g).max() > 0
        rng = np.random.default_rng(0)
        directions = [rng.normal(size=g.shape) for g in gradients]
        slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        size = np.sqrt(sum((g**2).sum() for g in gradients) * sum((d**2).sum() for d in directions))
        step = 1e-6 if double else 1e-3
        values = [_value_at(case, component, inputs, training, places, directions, h) for h in (step, -step)]
        # The error of the quotient: rounding over the step, and the step's square.
        assert abs((values[0] - values[1]) / (2 * step) - slope) < (1e-7 if double else 2e-3) * size


def replicas(case, strategy):
    """One SGD step on two replicas is the step on one device with the same global batch."""

    def step(case):
        model, (x, y) = subjects.model_of(case, subjects.make(case))
        before = [subjects.array(w) for w in model.trainable_weights]
        model.fit(x, y, batch_size=len(y), epochs=1, shuffle=False, verbose=0)
        after = [subjects.array(w) for w in model.trainable_weights]
        return before, after

    before, expected = step(case)
    with strategy.scope():
        _, got = step(case)
    assert any(np.abs(a - b).max() > 1e-6 for a, b in zip(before, expected, strict=True))
    # Sums in another order: relative to the largest weight, since a gradient may be nothing but the rounding of others.
    largest = max(1.0, *(np.abs(b).max() for b in expected))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * largest)


def _rounded(x, dtype):
    if x.dtype != np.float32:
        return x
    return ops.convert_to_numpy(ops.cast(ops.cast(ops.convert_to_tensor(x), dtype), "float32"))


def _value_at(case, component, inputs, training, places, directions, step):
    """Return the value with weights and inputs moved by a step, and move the weights back."""
    moved, before = list(inputs), []
    for place, direction in zip(places, directions, strict=True):
        if isinstance(place, int):
            moved[place] = (inputs[place] + step * direction).astype(inputs[place].dtype)
        else:
            before.append((place, np.array(ops.convert_to_numpy(place))))
            place.assign(before[-1][1] + step * direction)
    value, _, _ = subjects.value_and_gradients(case, component, moved, training)
    for variable, old in before:
        variable.assign(old)
    return float(subjects.array(value))
