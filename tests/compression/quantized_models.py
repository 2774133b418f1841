"""Models that are built alike with Keras 3 and Keras 2, and their training."""

import numpy as np

STEPS, BATCH = 16, 8
# Models that end without softmax.
LOGITS = ("chain", "dense_relu")


def build(keras, name):
    """Return a model made of the layers of either Keras, without its initial weights."""
    return _MODELS[name](keras, keras.layers)


def weights(model):
    """Return the weights as `{"layer/index": array}`."""
    return {f"{layer.name}/{i}": w for layer in model.layers for i, w in enumerate(layer.get_weights())}


def set_weights(model, arrays):
    """Set the weights to what `weights` returned."""
    for layer in model.layers:
        layer.set_weights([arrays[f"{layer.name}/{i}"] for i in range(len(layer.get_weights()))])


def data():
    """Return images and class ids for all steps."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(STEPS * BATCH, 8, 8, 2)).astype("float32")
    return x, generator.integers(0, 4, size=STEPS * BATCH).astype("int32")


def train(model):
    """Train a compiled model step by step; return losses and the outputs of inference after each step."""
    x, y = data()
    losses, outputs = [], []
    for start in range(0, len(x), BATCH):
        # Some versions return the mean over all batches so far.
        model.reset_metrics()
        losses.append(model.train_on_batch(x[start : start + BATCH], y[start : start + BATCH]))
        outputs.append(model.predict_on_batch(x[:BATCH]))
    return {"losses": np.array(losses), "outputs": np.array(outputs)}


def _chain(keras, layers):
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(6, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(4, name="logits"),
        ]
    )


def _branches(keras, layers):
    x = keras.Input((8, 8, 2), name="image")
    stem = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x)
    left = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(stem)
    left = layers.BatchNormalization(name="left_norm")(left)
    left = layers.Activation("relu", name="left_relu")(left)
    right = layers.Conv2D(4, 1, name="right")(stem)
    right = layers.BatchNormalization(name="right_norm")(right)
    both = layers.Add(name="add")([left, right])
    both = layers.ReLU(name="add_relu")(both)
    whole = layers.Concatenate(name="concatenate")([both, stem])
    small = layers.MaxPooling2D(2, name="pool")(whole)
    large = layers.Conv2DTranspose(3, 2, strides=2, name="transposed")(small)
    y = layers.GlobalAveragePooling2D(name="global")(large)
    return keras.Model(x, layers.Dense(4, activation="softmax", name="classes")(y))


def _separable(keras, layers):
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.SeparableConv2D(6, 3, name="separable"),
            layers.LeakyReLU(0.25, name="leaky"),
            layers.UpSampling2D(2, name="larger"),
            layers.Flatten(name="flatten"),
            layers.Dense(8, activation="tanh", name="hidden"),
            layers.Dense(4, activation="softmax", name="classes"),
        ]
    )


def _dense_relu(keras, layers):
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Flatten(name="flatten"),
            layers.Dense(8, name="hidden"),
            layers.ReLU(name="relu"),
            layers.Dense(4, name="logits"),
        ]
    )


_MODELS = {"chain": _chain, "branches": _branches, "separable": _separable, "dense_relu": _dense_relu}
