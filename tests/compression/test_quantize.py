"""Quantization-aware training: which models it takes, that they compute what they did, and how they train."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from compression.test_fake_quantizer import rounded

import keras_kicks
from keras_kicks.compression import (
    ConstantSparsity,
    calibrate,
    prune_low_magnitude,
    quantize_annotate_layer,
    quantize_model,
    strip_pruning,
)
from keras_kicks.compression.quantized_layer import QuantizedInput, QuantizedLayer

pytestmark = pytest.mark.tensorflow
L = keras.layers


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def chain(*layers, shape=(6,), name=None):
    return keras.Sequential([keras.Input(shape), *layers], name=name)


def network():
    """An MLP of which the last layer has a regularizer."""
    return chain(L.Dense(8, activation="relu"), L.Dense(3, kernel_regularizer="l2", activity_regularizer="l1"))


def convolution():
    stack = [
        L.Conv2D(4, 3, use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dense(3),
    ]
    return chain(*stack, shape=(6, 6, 2))


def values(model):
    return [keras.ops.convert_to_numpy(v) for v in model.variables]


def quantized_layers(model):
    return {layer.layer.name: layer for layer in model._flatten_layers() if isinstance(layer, QuantizedLayer)}


def places(model):
    """Return where each layer is rounded: the weights, before the activation, after it."""
    found = quantized_layers(model).items()
    return {name: (list(layer.weight_kinds), layer.before, layer.after) for name, layer in found}


def test_a_model_of_dense_layers_computes_what_numpy_does():
    model = chain(L.Dense(8, activation="relu"), L.Dense(5, activation="softmax"), L.Dense(3, activation="silu"))
    x = drawn(64, 6)
    quantized = quantize_model(model, x)
    y = x
    # What a range is taken from is not rounded, and comes in batches of 32.
    y, exact = rounded(x, x.min(), x.max()), x
    for layer in model.layers:
        w, b = layer.get_weights()
        largest = np.abs(w).max()
        product, exact_product = y @ rounded(w, -largest, largest, narrow=True) + b, exact @ w + b
        activation = lambda z, f=layer.activation: keras.ops.convert_to_numpy(f(z))  # noqa: E731
        name = layer.activation.__name__
        if name in ("softmax", "silu"):
            product = within_range_of(product, exact_product)
        y, exact = activation(product.astype("float32")), activation(exact_product.astype("float32"))
        if name in ("relu", "silu"):
            y = within_range_of(y, exact)
    np.testing.assert_allclose(quantized.predict(x, verbose=0), y, rtol=0, atol=1e-5)
    assert np.abs(model.predict(x, verbose=0) - y).max() > 1e-4


def within_range_of(y, exact):
    halves = np.split(exact, 2)
    return rounded(y, np.mean([min(h.min(), 0) for h in halves]), np.mean([max(h.max(), 0) for h in halves]))


def test_the_model_is_not_changed_and_shares_nothing_with_the_copy():
    model = convolution()
    before, layers, x = values(model), list(model.layers), drawn(8, 6, 6, 2)
    y = model.predict(x, verbose=0)
    quantized = quantize_model(model, x)
    quantized.compile("sgd", "mse")
    quantized.fit(x, drawn(8, 3), verbose=0)
    assert model.layers == layers
    for a, b in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model.predict(x, verbose=0), y)
    assert not {id(v) for v in model.variables} & {id(v) for v in quantized.variables}


def mixed(x):
    a = L.Conv2D(4, 3, padding="same", name="twice")(x)
    b = L.ReLU(name="relu_of_twice")(a)
    c = L.Conv2D(4, 1, name="other")(a)
    return L.Concatenate(name="whole")([b, c, a, L.ReLU(name="alone")(c)])


def shared(x):
    dense = L.Dense(6)
    return L.Add()([dense(dense(x)), L.ReLU()(dense(x))])


LAYERS = {
    "mlp": network,
    "convolution": convolution,
    "sequences": lambda: chain(
        L.Conv1D(4, 3, padding="causal", dilation_rate=2), L.Conv1D(4, 3, strides=2, padding="same"), L.MaxPooling1D(2),
        L.Conv1D(4, 2, groups=2, use_bias=False), L.BatchNormalization(), L.ReLU(), L.GlobalMaxPooling1D(),
        shape=(16, 2),
    ),
    "images": lambda: chain(
        L.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu"), L.DepthwiseConv2D(3, padding="same"),
        L.BatchNormalization(), L.Activation("relu"), L.Conv2DTranspose(3, 3, strides=2, activation="relu"),
        L.UpSampling2D(2, interpolation="bilinear"), L.AveragePooling2D(2), L.GlobalAveragePooling2D(), shape=(8, 8, 2),
    ),
    "dense, normalization": lambda: chain(L.Dense(8), L.BatchNormalization(), L.ReLU(), L.Dense(3)),
    "ours": lambda: chain(
        keras_kicks.layers.MaxoutDense(6, 2), keras_kicks.layers.RReLU(), keras_kicks.layers.MaxoutDense(4, 3)
    ),
    "first an activation": lambda: chain(L.Activation("tanh"), L.Dense(3), L.LeakyReLU()),
    "no input": lambda: called(keras.Sequential([L.Dense(5, activation="gelu"), L.Dense(3)]), drawn(2, 6)),
    "nested": lambda: functional(lambda x: network()(chain(L.Dense(6), L.BatchNormalization(), L.ReLU())(x))),
    "nested twice": lambda: chain(functional(chain(functional(L.Dense(5, activation="relu")))), L.Dense(3)),
    "shared": lambda: functional(shared),
    "shared model": lambda: functional(lambda x: L.Subtract()([*map(network(), [x, L.ReLU()(x)])])),
    "branches": lambda: functional(mixed, shape=(8, 8, 2)),
    "several outputs": lambda: functional(
        lambda x: (lambda y: {"a": y, "b": L.ReLU()(y), "c": x})(L.Dense(4, name="end")(x))
    ),
    "subclass": lambda: functional(L.Dense(3), kind=Custom),
}  # fmt: skip


class Custom(keras.Model):
    def train_step(self, data):
        raise AssertionError("a copy is a plain model")


def functional(make, shape=(6,), kind=keras.Model):
    x = keras.Input(shape)
    return kind(x, make(x))


def called(model, x):
    model(x)
    return model


def near(ours, theirs):
    """Most outputs are near; a few are cut off by the mean of the ranges of batches."""
    for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).mean() < 0.02 * np.abs(b).max()


@pytest.mark.parametrize("name", LAYERS)
def test_without_rounding_a_copy_computes_what_the_model_does(name):
    """Observing does not round; the ranges that it finds are enough to be near the model then."""
    model = LAYERS[name]()
    x = drawn(40, *model.inputs[0].shape[1:])
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([np.random.default_rng(1).uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    quantized = quantize_model(model)
    parts = [layer for layer in quantized._flatten_layers() if isinstance(layer, (QuantizedLayer, QuantizedInput))]
    quantizers = [q for part in parts for group in part.quantizers() for q in group]
    for quantizer in quantizers:
        quantizer.observe()
    expected = model(x)
    for a, b in zip(keras.tree.flatten(quantized(x)), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for quantizer in quantizers:
        quantizer.settle(keep=False)
    assert quantized.output_shape == model.output_shape
    near(calibrate(quantized, x)(x), expected)
    assert np.any([np.any(a != b) for a, b in zip(*map(keras.tree.flatten, (quantized(x), expected)), strict=True)])


def test_what_becomes_one_operation_is_rounded_at_its_end():
    stack = [L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.DepthwiseConv2D(3), L.Activation("relu6")]
    names = ["conv", "norm", "relu", "depthwise", "relu6", "hidden"]
    for layer, name in zip([*stack, L.Dense(3, activation="tanh")], names, strict=True):
        layer.name = name
        stack = [*stack, layer] if name == "hidden" else stack
    assert places(quantize_model(chain(*stack, shape=(8, 8, 1)))) == {
        "conv": (["kernel"], False, False),
        "norm": ([], False, False),
        "relu": ([], False, True),
        "depthwise": (["kernel"], False, False),
        "relu6": ([], False, True),
        "hidden": (["kernel"], True, False),
    }


def test_what_several_layers_or_the_caller_get_is_rounded_before_they_do():
    found = places(quantize_model(functional(mixed, shape=(8, 8, 2))))
    # `alone` feeds the Concatenate alone, whose range it gets.
    assert found["twice"] == (["kernel"], False, True)
    assert found["relu_of_twice"] == ([], False, False)
    assert found["other"] == (["kernel"], False, True)
    assert found["alone"] == ([], False, False)
    assert found["whole"] == ([], False, True)
    found = places(quantize_model(LAYERS["several outputs"]()))
    assert found["end"] == (["kernel"], False, True)


def test_a_convolution_that_is_used_twice_or_returned_cannot_be_folded_into_normalization():
    def both(x):
        y = L.Conv2D(4, 3, padding="same")(x)
        return L.Add()([L.BatchNormalization(name="norm")(y), y])

    def returned(x):
        y = L.Conv2D(4, 3)(x)
        return [y, L.BatchNormalization(name="norm")(y)]

    for make in (both, returned):
        with pytest.raises(ValueError, match=r"got layer='norm', kind='BatchNormalization'\. It has to normalize"):
            quantize_model(functional(make, shape=(8, 8, 2)))


def test_a_layer_shared_by_two_models_is_rounded_where_either_needs_it():
    dense = L.Dense(4, name="dense")
    inner = chain(dense, L.ReLU(), name="inner")
    found = places(quantize_model(functional(lambda x: L.Concatenate()([inner(x), dense(x)]))))
    assert found["dense"] == (["kernel"], False, True)


def several(structure):
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    c = keras.Input((4,), name="c", dtype="int32")
    y = L.Concatenate()([L.Dense(5, activation="relu")(a), L.Dense(5)(b), L.Dense(2)(c)])
    return keras.Model({"list": [a, b, c], "dict": {"a": a, "b": b, "c": c}}[structure], L.Dense(3)(y))


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_several_inputs_keep_their_structure_and_names(structure, tmp_path):
    model = several(structure)
    x = [drawn(40, 6), drawn(40, 4), np.random.default_rng(0).integers(0, 3, (40, 4))]
    x = x if structure == "list" else dict(zip("abc", x, strict=True))
    quantized = quantize_model(model, x)
    near(quantized.predict(x, verbose=0), model.predict(x, verbose=0))
    # Integers are exact already.
    inputs = {layer.name for layer in quantized.layers if isinstance(layer, QuantizedInput)}
    assert inputs == {"quant_a", "quant_b"}
    assert [x.name for x in quantized.inputs] == [x.name for x in model.inputs]
    quantized.compile("sgd", "mse")
    quantized.fit(x, drawn(40, 3), verbose=0)
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), quantized.predict(x, verbose=0))


def test_names_of_inputs_are_kept_where_keras_gave_them():
    a, b = keras.Input((6,)), keras.Input((6,))
    model = keras.Model([a, b], L.Add()([a, b]))
    names = [layer.name for layer in model.layers if isinstance(layer, L.InputLayer)]
    quantized = quantize_model(model)
    assert [layer.name for layer in quantized.layers if isinstance(layer, L.InputLayer)] == names


def trained(model, x, y, optimizer=None, **kwargs):
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", **kwargs)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("make", [network, convolution])
@pytest.mark.parametrize("how", [{"jit_compile": True}, {"steps_per_execution": 2}])
def test_training_is_the_same_with_jit_and_several_steps_at_once(make, how):
    x = drawn(64, *make().input_shape[1:])
    y = drawn(64, 3)
    results = []
    for settings in ({"jit_compile": False}, {"jit_compile": False, **how}):
        keras.utils.set_random_seed(1)
        results.append(values(trained(quantize_model(make(), x), x, y, keras.optimizers.SGD(0.05), **settings)))
    assert len(results[0]) == len(results[1])
    for a, b in zip(*results, strict=True):
        # XLA rounds otherwise in the last bit, by which a value here and there takes its neighbour of 256.
        np.testing.assert_allclose(a, b, rtol=0, atol=0 if "steps_per_execution" in how else 0.01)


def test_training_lowers_the_loss_and_moves_ranges():
    x = drawn(64, 6)
    y = x[:, :3] * 0.5
    quantized = quantize_model(network(), x)
    quantized.compile(keras.optimizers.Adam(0.01), "mse")
    before = [layer.quantizers()[1][0].high.numpy() for layer in quantized_layers(quantized).values()]
    history = quantized.fit(x, y, batch_size=8, epochs=10, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    after = [layer.quantizers()[1][0].high.numpy() for layer in quantized_layers(quantized).values()]
    assert np.all(np.not_equal(before, after))
    quantized.evaluate(3 * x, y, verbose=0)
    quantized.predict(3 * x, verbose=0)
    assert [layer.quantizers()[1][0].high.numpy() for layer in quantized_layers(quantized).values()] == after


@pytest.mark.parametrize("make", [network, convolution])
def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(make, tmp_path):
    x = drawn(32, *make().input_shape[1:])
    y = drawn(32, 3)
    quantized = quantize_model(make(), x)
    trained(quantized, x, y)
    quantized.save(tmp_path / "model.keras")
    resumed = keras.models.load_model(tmp_path / "model.keras")
    for model in (quantized, resumed):
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(values(quantized), values(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_file_is_loaded_in_a_new_process_that_imports_the_package(tmp_path):
    x = drawn(16, 6, 6, 2)
    quantized = trained(quantize_model(convolution(), x), x, drawn(16, 3))
    quantized.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, keras, numpy as np, keras_kicks\n"
        "model = keras.models.load_model(sys.argv[1] + '/model.keras')\n"
        "np.save(sys.argv[1] + '/y.npy', model.predict(np.load(sys.argv[1] + '/x.npy'), verbose=0))\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), quantized.predict(x, verbose=0), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_replicas_agree_on_their_ranges(strategy):
    """Of 8 equal batches, replicas see each the same, so all is as on one device."""
    x, y = np.tile(drawn(4, 6), (16, 1)), np.tile(drawn(4, 3, seed=1), (16, 1))
    results = []
    for scope in (None, strategy):
        keras.utils.set_random_seed(1)
        if scope is None:
            quantized = quantize_model(network(), x)
            quantized.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        else:
            with scope.scope():
                quantized = quantize_model(network(), x)
                quantized.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        quantized.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        results.append(quantized)
    for variable in results[1].variables:
        copies = [copy.numpy() for copy in variable.value.values]
        np.testing.assert_array_equal(copies[0], copies[1], err_msg=variable.path)
    for a, b in zip(*map(values, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_replicas_that_see_other_data_take_the_mean_of_their_ranges(strategy):
    x = drawn(8, 6)
    x[4:] *= 3
    with strategy.scope():
        quantized = quantize_model(chain(L.Dense(3)))
        quantized.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    quantized.fit(x, drawn(8, 3), batch_size=8, shuffle=False, verbose=0)
    (entry,) = [layer for layer in quantized.layers if isinstance(layer, QuantizedInput)]
    (quantizer,) = entry.quantizers()[1]
    expected = [np.mean([f(part) for part in np.split(x, 2)]) for f in (np.min, np.max)]
    np.testing.assert_allclose([quantizer.low.numpy(), quantizer.high.numpy()], expected, rtol=1e-6)
    # It may be calibrated outside of the scope.
    calibrate(quantized, x)
    copies = [copy.numpy() for copy in quantizer.high.value.values]
    np.testing.assert_array_equal(copies, [x.max(), x.max()])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_a_mixed_policy_gets_a_copy_in_float32(policy):
    twin, x, y = convolution(), drawn(16, 6, 6, 2), drawn(16, 3)
    expected = trained(quantize_model(twin, x), x, y).predict(x, verbose=0)
    keras.config.set_dtype_policy(policy)
    model = convolution()
    model.set_weights(twin.get_weights())
    assert model.layers[0].compute_dtype == policy.removeprefix("mixed_")
    quantized = trained(quantize_model(model, x), x, y)
    np.testing.assert_array_equal(quantized.predict(x, verbose=0), expected)


def test_frozen_layers_stay_frozen():
    model = convolution()
    for layer in model.layers[:2]:
        layer.trainable = False
    x = drawn(16, 6, 6, 2)
    quantized = quantize_model(model, x)
    inner = quantized_layers(quantized)
    names = [layer.name for layer in model.layers]
    before = [inner[name].layer.get_weights() for name in names[:2]]
    last = inner[names[-1]].layer.get_weights()
    assert len(quantized.trainable_weights) == 2
    trained(quantized, x, drawn(16, 3))
    for name, weights in zip(names[:2], before, strict=True):
        for a, b in zip(inner[name].layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(a, b)
    assert np.any(inner[names[-1]].layer.get_weights()[0] != last[0])


def test_regularizers_count_as_in_the_model():
    x = drawn(32, 6)
    model = chain(
        L.Dense(8, activation="relu", activity_regularizer="l2", kernel_regularizer="l1", bias_regularizer="l2"),
        L.ActivityRegularization(l2=0.1),
        L.Dense(3, kernel_regularizer="l2", activity_regularizer="l1"),
    )
    quantized = quantize_model(model, x)
    model(x)
    quantized(x)
    # Those of weights are equal, those of activations see rounded ones.
    assert len(quantized.losses) == len(model.losses) == 6
    np.testing.assert_allclose(sorted(map(float, quantized.losses)), sorted(map(float, model.losses)), rtol=0.02)
    weights = [
        sorted(float(v.regularizer(v)) for v in m.trainable_variables if v.regularizer) for m in (quantized, model)
    ]
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_weights_that_were_pruned_stay_zero(jit_compile):
    x, y = drawn(32, 6, 6, 2), drawn(32, 3)
    model = convolution()
    prune_low_magnitude(model, ConstantSparsity(0.5, 0, frequency=1))
    trained(model, x, y)
    strip_pruning(model)
    # A channel may be zero as a whole.
    kernel = model.layers[0].get_weights()[0]
    kernel[..., 1] = 0
    model.layers[0].set_weights([kernel])
    for preserve in (True, False):
        quantized = quantize_model(model, x, preserve_sparsity=preserve)
        trained(quantized, x, y, jit_compile=jit_compile)
        assert all(np.isfinite(v).all() for v in values(quantized))
        for layer in (model.layers[0], model.layers[-1]):
            zero = layer.get_weights()[0] == 0
            assert 0.4 < zero.mean() < 0.7
            after = quantized_layers(quantized)[layer.name].layer.get_weights()[0]
            assert np.any(after[~zero] != layer.get_weights()[0][~zero])
            assert np.all(after[zero] == 0) == preserve


def test_a_mask_reaches_the_layer_that_takes_it():
    x = drawn(2, 5, 3)
    x[0, 2:] = 0
    stack = [
        L.Dense(4, activation="relu", bias_initializer="ones", name="dense"),
        L.GlobalAveragePooling1D(name="pool"),
    ]
    model, plain = chain(L.Masking(), *stack, shape=(5, 3)), chain(*stack, shape=(5, 3))
    near(quantize_model(model, [x], layers=["dense", "pool"])(x), model(x))
    assert np.abs(model(x) - plain(x)).max() > 0.2


def unbuilt():
    return keras.Sequential([L.Dense(3)])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(3)

    def call(self, x):
        return self.dense(x)


def added(x):
    return L.Dense(6)(x) + x


def with_lora():
    model = network()
    model.layers[0].enable_lora(2)
    return model


def pruned():
    return prune_low_magnitude(network(), ConstantSparsity(0.5, 0))


def quantized_by_keras():
    model = network()
    model.layers[0].quantize("int8")
    return model


WRONG = {
    "no model": (lambda: "model", TypeError, "expected a model of Keras 3; got model='builtins.str'"),
    "unbuilt": (unbuilt, ValueError, "expected a built model; got model='.*'. Call it on a batch first."),
    "subclassed": (
        lambda: called(Subclassed(), drawn(2, 6)),
        ValueError,
        "expected a Sequential or functional model; got model='Subclassed'. Rewrite a subclassed model",
    ),
    "empty": (lambda: functional(lambda x: x), ValueError, "expected a model with layers"),
    "operation": (
        lambda: functional(added),
        TypeError,
        "expected layers, not operations; got operation='add.*'. Use the layer for it, such as keras.layers.Add.",
    ),
    "twice": (lambda: quantize_model(network()), ValueError, "expected a model that is not quantized yet"),
    "lora": (with_lora, ValueError, "expected a kernel that is a variable; got layer='dense.*'. Do not enable LoRA."),
    "pruned": (pruned, ValueError, "expected a model whose pruning has ended; .*Call strip_pruning first."),
    "quantized": (quantized_by_keras, ValueError, "expected layers of float weights; .*quantized='int8'"),
    "LSTM": (lambda: chain(L.LSTM(3, name="x"), shape=(4, 2)), ValueError, "got layer='x', kind='LSTM'. Name the"),
    "LayerNormalization": (
        lambda: chain(L.LayerNormalization(name="x")),
        ValueError,
        "got layer='x', kind='LayerNormalization'. Name the `layers` to quantize",
    ),
    "Rescaling": (lambda: chain(L.Rescaling(2.0, name="x"), L.Dense(2)), ValueError, "got layer='x', kind='Rescaling'"),
    "Embedding": (lambda: chain(L.Embedding(3, 2, name="x")), ValueError, "got layer='x', kind='Embedding'"),
    "ReLU with slopes": (
        lambda: chain(L.Dense(3), L.ReLU(negative_slope=0.1, name="x")),
        ValueError,
        "got layer='x', kind='ReLU'. It has to be one of relu or relu6; LeakyReLU has slopes.",
    ),
    "BatchNormalization": (
        lambda: chain(L.Dense(3, activation="relu"), L.BatchNormalization(name="x")),
        ValueError,
        "got layer='x', kind='BatchNormalization'. It has to normalize the last axis, after a quantized convolution",
    ),
    "axis": (
        lambda: chain(L.Conv2D(3, 1), L.BatchNormalization(1, name="x"), shape=(4, 4, 3)),
        ValueError,
        "got layer='x', kind='BatchNormalization'. It has to normalize the last axis",
    ),
    "channels first": (
        lambda: chain(L.Conv1D(3, 1, data_format="channels_first", name="x"), shape=(2, 5)),
        ValueError,
        "expected layers with channels last; got layer='x'",
    ),
    "elu": (
        lambda: chain(L.Dense(3, activation="elu", name="x")),
        ValueError,
        "expected activations among gelu, linear, .*; got layer='x', activation='elu'. Name the `layers`",
    ),
    "nested": (lambda: functional(chain(L.Dense(3), L.ELU(name="x"))), ValueError, "got layer='x', kind='ELU'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_quantized_is_named(name):
    make, error, message = WRONG[name]
    model = make()
    with pytest.raises(error, match=f"^quantize_model: .*{message}"):
        quantize_model(model)


def test_a_model_of_keras_2_is_refused():
    import tf_keras  # noqa: TID251

    model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])
    with pytest.raises(TypeError, match=r"^quantize_model: expected a model of Keras 3; got .*tf_keras"):
        quantize_model(model)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ("other", ValueError, "expected layers of the model; got layers='other'. It has: first, inner, second, third."),
        (["first", "other"], ValueError, "expected layers of the model; got layers='other'."),
        (3, TypeError, "expected layers, or names of layers; got layers=3"),
    ],
)
def test_layers_have_to_be_of_the_model(layers, error, message):
    inner = chain(L.Dense(4, name="second"), L.Dense(4, name="third"), name="inner")
    with pytest.raises(error, match=re.escape(message)):
        quantize_model(chain(L.Dense(6, name="first"), inner), layers=layers)


def test_only_wanted_layers_are_quantized():
    def model():
        inner = chain(L.Dense(4, name="second"), L.LayerNormalization(), L.Dense(4, name="third"), name="inner")
        return chain(L.Dense(6, name="first"), L.ELU(), inner)

    assert list(places(quantize_model(model(), layers="first"))) == ["first"]
    assert sorted(places(quantize_model(model(), layers=["third", "first"]))) == ["first", "third"]
    whole = model()
    assert list(places(quantize_model(whole, layers=whole.layers[0]))) == ["first"]
    inner = chain(L.Dense(4, name="second"), L.Dense(4, name="third"), name="inner")
    assert sorted(places(quantize_model(chain(L.ELU(), inner), layers="inner"))) == ["second", "third"]
    # Others stay as they are, in one piece.
    rest = chain(L.SeparableConv2D(2, 1, name="separable"), L.Conv2D(2, 1, name="last"), shape=(4, 4, 2))
    quantized = quantize_model(rest, layers="last")
    assert "separable" in [layer.name for layer in quantized.layers]
    assert not any(isinstance(layer, QuantizedInput) for layer in quantized.layers)


def test_operations_are_left_alone_where_layers_are_named():
    def residual(x):
        return L.Dense(6, name="last")(L.Dense(6)(x) + x)

    model, x = functional(residual), drawn(16, 6)
    quantized = quantize_model(model, x, layers="last")
    near(quantized(x), model(x))
    marked = functional(lambda x: quantize_annotate_layer(L.Dense(6))(x) + x)
    assert len(places(quantize_model(marked))) == 1
