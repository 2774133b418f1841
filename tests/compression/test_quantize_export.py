"""From quantization-aware training to integers: an int8 .tflite file against the model that rounds."""

import keras
import numpy as np
import pytest
from compression.test_tflite import computed, operations

from keras_kicks.compression import predict_tflite, quantize_annotate_layer, quantize_model, to_tflite
from keras_kicks.layers import MaxoutDense, RReLU

pytestmark = pytest.mark.tensorflow
L = keras.layers
INTEGERS = {"INT8", "INT32"}


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def chain(*layers, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *layers])


def image(make):
    x = keras.Input((8, 8, 3))
    return keras.Model(x, make(x))


def normalized(x, filters=4, **kwargs):
    return L.BatchNormalization()(L.Conv2D(filters, 3, padding="same", use_bias=False, **kwargs)(x))


def residual(x):
    stem = L.ReLU(6.0)(normalized(x))
    y = L.ReLU()(L.Add()([normalized(L.Activation("relu")(normalized(stem))), normalized(stem)]))
    return L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(y))


def inception(x):
    a, b = L.ReLU()(normalized(x)), normalized(x)
    c, d = L.AveragePooling2D(3, 1, padding="same")(x), L.MaxPooling2D(3, 1, padding="same")(x)
    whole = L.Concatenate()([a, b, c, d])
    return L.Concatenate()([whole, L.Conv2D(3, 1, activation="relu")(whole)])


def used_twice(x):
    """A convolution that is normalized and goes elsewhere too would have to be rounded before it is normalized."""
    y = L.Conv2D(4, 3, padding="same", name="stem")(x)
    return [L.Conv2D(3, 1)(y), L.ReLU()(y), y]


def arithmetic(x):
    a, b = L.Conv2D(4, 1)(x), L.Conv2D(4, 1, activation="sigmoid")(x)
    return L.Subtract()([L.Multiply()([a, b]), a])


def nested(x):
    head = keras.Sequential([keras.Input((8, 8, 4)), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU()])
    return L.Dense(3)(L.Flatten()(head(L.Conv2D(4, 1, activation="relu6")(x))))


def shared(x):
    dense, y = L.Dense(4), L.Flatten()(x)
    return L.Add()([dense(L.Dense(6, activation="relu")(y)), dense(L.Dense(6, activation="tanh")(y))])


def two_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    y = L.Concatenate()([L.Dense(5, activation="relu")(a), L.Dense(5)(b)])
    return keras.Model({"a": a, "b": b}, L.Dense(3)(y))


def marked():
    marks = [quantize_annotate_layer(L.Conv2D(4, 3, activation="relu")), quantize_annotate_layer(L.Flatten())]
    return chain(*marks, quantize_annotate_layer(L.Dense(3), ["kernel"]))


MODELS = {
    "dense": lambda: chain(L.Dense(8, activation="relu"), L.Dense(3), shape=(6,)),
    "dense of a sequence": lambda: chain(L.Dense(8), L.ReLU(), L.Dense(3), shape=(5, 6)),
    "dense, normalization": lambda: chain(
        L.Dense(8), L.BatchNormalization(), L.ReLU(), L.Dense(4, use_bias=False), L.BatchNormalization(), shape=(6,)
    ),
    "dense of an image, normalization": lambda: chain(L.Dense(4), L.BatchNormalization(), L.Flatten(), L.Dense(3)),
    "dense of a sequence, normalization": lambda: chain(L.Dense(4), L.BatchNormalization(), L.ReLU(), shape=(5, 6)),
    "activations": lambda: chain(
        *(L.Dense(6, activation=name) for name in ("relu6", "silu", "gelu", "sigmoid", "tanh", "softmax")), shape=(6,)
    ),
    "activation layers": lambda: chain(
        L.Activation("relu"),
        *(part for name in ("silu", "gelu", "sigmoid", "tanh") for part in (L.Dense(6), L.Activation(name))),
        L.Dense(6),
        L.LeakyReLU(),
        L.Dense(6),
        L.ReLU(6.0),
        L.Dense(6),
        L.Softmax(),
        shape=(6,),
    ),
    "ours": lambda: chain(MaxoutDense(6, 2), L.Dense(6), RReLU(), MaxoutDense(4, 3, activation="relu"), shape=(6,)),
    "convolution": lambda: chain(L.Conv2D(4, 3, strides=2), L.ReLU(), L.Conv2D(4, 3, dilation_rate=2, padding="same")),
    "groups": lambda: chain(L.Conv2D(4, 1), L.Conv2D(4, 3, groups=2, activation="relu")),
    "depthwise": lambda: chain(
        L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), L.BatchNormalization(), L.Activation("relu6")
    ),
    "separable": lambda: chain(
        L.SeparableConv2D(4, 3, use_bias=False), L.BatchNormalization(), L.ReLU(), L.SeparableConv2D(4, 3, strides=2)
    ),
    "transposed": lambda: chain(
        L.Conv2DTranspose(4, 3, strides=2), L.ReLU(), L.Conv2DTranspose(2, 2, activation="relu")
    ),
    "sequence": lambda: chain(
        L.Conv1D(4, 3, padding="causal", use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv1D(4, 3, strides=2, activation="relu"),
        L.MaxPooling1D(2),
        L.Conv1D(4, 2, padding="same"),
        L.GlobalAveragePooling1D(),
        L.Dense(3),
        shape=(16, 3),
    ),
    "reshaped, normalization": lambda: chain(
        L.Conv2D(4, 3), L.Reshape((36, 4)), L.BatchNormalization(), L.ReLU(), L.GlobalMaxPooling1D()
    ),
    "moving": lambda: chain(
        L.ZeroPadding2D(1), L.Cropping2D(((1, 0), (0, 1))), L.Conv2D(4, 3), L.Dropout(0.3), L.Permute((2, 1, 3)),
        L.UpSampling2D(2), L.SpatialDropout2D(0.2), L.GaussianNoise(0.1), L.Flatten(), L.Dense(3),
    ),
    "bilinear": lambda: chain(L.Conv2D(4, 3), L.UpSampling2D(2, interpolation="bilinear")),
    "pooling first": lambda: chain(L.MaxPooling2D(2), L.AveragePooling2D(2), L.Flatten(), L.Dense(3)),
    "residual": lambda: image(residual),
    "inception": lambda: image(inception),
    "used twice": lambda: image(used_twice),
    "arithmetic": lambda: image(arithmetic),
    "nested": lambda: image(nested),
    "shared": lambda: image(shared),
    "two inputs": two_inputs,
    "marked": marked,
}  # fmt: skip


def digits():
    """Return the images of handwritten digits of scikit-learn, in two parts, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32") / 16
    order = np.random.default_rng(0).permutation(len(x))
    return np.split(x[order], [1200]), np.split(y[order], [1200])


@pytest.mark.slow
def test_a_classifier_of_digits_is_as_good_in_integers(tmp_path):
    (x, unseen), (y, classes) = digits()
    block = [L.Conv2D(16, 3, padding="same", use_bias=False), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(2)]
    model = chain(*block, L.Conv2D(32, 3, activation="relu"), L.Flatten(), L.Dense(10), shape=(8, 8, 1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Until it has settled: a model that is not fully trained would gain by more training of any kind.
    epochs, steps = 30, -(-len(x) // 64)
    decay = keras.optimizers.schedules.CosineDecay(5e-3, epochs * steps)
    model.compile(keras.optimizers.Adam(decay), loss)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    quantized = quantize_model(model, x[:320])
    quantized.compile(keras.optimizers.Adam(1e-4), loss)
    quantized.fit(x, y, batch_size=64, epochs=2, verbose=0)
    small = to_tflite(quantized, tmp_path / "small.tflite", "int8")
    assert all(types <= INTEGERS for _, types in computed(tmp_path / "small.tflite"))
    assert small.size < 0.5 * to_tflite(model, tmp_path / "whole.tflite").size
    inputs, targets = np.concatenate([x, unseen]), np.concatenate([y, classes])
    files = predict_tflite(tmp_path / "small.tflite", inputs).argmax(axis=1)
    rounds, floats = (m.predict(inputs, verbose=0).argmax(axis=1) for m in (quantized, model))
    assert np.mean(files == rounds) >= 0.99
    unseen = slice(len(x), None)
    assert np.mean(floats[unseen] == classes) > 0.95
    assert abs(np.mean(files[unseen] == classes) - np.mean(floats[unseen] == classes)) <= 0.005
    assert abs(np.mean(files == targets) - np.mean(floats == targets)) <= 0.005


def inputs(model, count, seed=1):
    drawn_for = {x.name: drawn(count, *x.shape[1:], seed=seed) for x in model.inputs}
    return drawn_for if len(drawn_for) > 1 else next(iter(drawn_for.values()))


def exported(model, x, path):
    """Return a quantized model with ranges of x and statistics that no normalization starts with, and its file."""
    generator = np.random.default_rng(2)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    quantized = quantize_model(model, x)
    to_tflite(quantized, path, "int8")
    return quantized


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_all_that_a_file_computes_is_integer_and_near_what_was_trained(name, tmp_path):
    path = tmp_path / "model.tflite"
    model = MODELS[name]()
    x = inputs(model, 64)
    quantized = exported(model, x, path)
    assert computed(path)
    for operation, types in computed(path):
        assert types <= INTEGERS, (operation, types)
    # Floats are in what is rounded at the borders alone.
    borders = [types for operation, types in operations(path) if operation in ("QUANTIZE", "DEQUANTIZE")]
    floating = sum("FLOAT32" in types for types in borders)
    assert floating == len(model.inputs) + len(model.outputs)
    got = keras.tree.flatten(predict_tflite(path, x))
    for ours, theirs in zip(keras.tree.flatten(quantized.predict(x, verbose=0)), got, strict=True):
        # Both take one of 256 values: mostly the same, and here and there its neighbours.
        step = np.diff(np.unique(theirs)).min()
        assert np.abs(ours - theirs).mean() < step
        assert np.abs(ours - theirs).max() < 6 * step
