"""A shared kernel stays shared in files, copies and clones, and training goes on."""

import io
import zipfile

import keras
import numpy as np
import pytest
import subjects
from keras import layers

from keras_kicks.layers import TransposedConv2D, TransposedDense


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sequential():
    encoder = layers.Dense(3, "tanh", name="encoder")
    return keras.Sequential([keras.Input((5,)), encoder, TransposedDense(encoder, name="decoder")])


def deferred():
    """Built by the first call."""
    encoder = layers.Dense(3, "tanh", name="encoder")
    model = keras.Sequential([encoder, TransposedDense(encoder, name="decoder")])
    model(numbers(2, 5))
    return model


def functional():
    """Two layers deep, with a skip connection."""
    first, second = layers.Dense(4, "tanh", name="encoder"), layers.Dense(3, "tanh", name="second")
    x = keras.Input((5,))
    y = TransposedDense(second, "tanh")(second(first(x)))
    y = TransposedDense(first, name="decoder")(y)
    return keras.Model(x, layers.Add()([x, y]))


def convolutional():
    encoder = layers.Conv2D(3, 3, strides=2, padding="same", name="encoder")
    x = keras.Input((5,))
    y = layers.Reshape((8, 8, 1))(layers.Dense(64)(x))
    y = TransposedConv2D(encoder, name="decoder")(encoder(y))
    return keras.Model(x, layers.Dense(5)(layers.Flatten()(y)))


def nested():
    """Encoder and decoder are models of their own."""
    encoder = layers.Dense(3, "tanh", name="encoder")
    whole = keras.Sequential([keras.Input((5,)), encoder], name="encoding")
    decoder = keras.Sequential([keras.Input((3,)), TransposedDense(encoder, name="decoder")], name="decoding")
    x = keras.Input((5,))
    return keras.Model(x, decoder(whole(x)))


@keras.saving.register_keras_serializable(package="test_transposed")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.outer = layers.Dense(3, "tanh", name="encoder")
        self.back = TransposedDense(self.outer, name="decoder")

    def call(self, x):
        return self.back(self.outer(x))


def subclassed():
    model = Subclassed()
    model(numbers(2, 5))
    return model


MODELS = {f.__name__: f for f in (sequential, deferred, functional, convolutional, nested, subclassed)}


def part(model, name):
    """Return the layer of a name."""
    found = [layer for layer in model._flatten_layers() if layer.name == name]
    assert len({id(layer) for layer in found}) == 1
    return found[0]


def trained(model, epochs=2):
    x = numbers(16, 5, seed=3)
    model.fit(x, x, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model.get_weights()


def compiled(model):
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_file_holds_the_kernel_once_and_training_goes_on(name, tmp_path):
    model = compiled(MODELS[name]())
    trained(model)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    loaded(numbers(2, 5))  # A nested decoder finds the encoder when it runs.
    assert part(loaded, "decoder").tied_to is part(loaded, "encoder")
    for a, b in zip(trained(model), trained(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    shape = tuple(part(model, "encoder").kernel.shape)
    assert [s for s in shapes_in(path) if s == shape] == [shape]


def shapes_in(path):
    """Return the shapes of the weights in a file, without the optimizer's."""
    import h5py

    shapes = []
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:

        def visit(name, item):
            if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
                shapes.append(item.shape)

        file.visititems(visit)
    return shapes


@pytest.mark.parametrize("copy", ["clone_model", "from_config", "weights"])
@pytest.mark.parametrize("name", MODELS)
def test_copies_share_a_kernel_of_their_own(name, copy, tmp_path):
    model = MODELS[name]()
    if copy == "clone_model":
        other = keras.models.clone_model(model)
    elif copy == "from_config":
        other = type(model).from_config(model.get_config())
    else:
        other = MODELS[name]()
        other(numbers(2, 5))
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
    other(numbers(2, 5))
    other.set_weights(model.get_weights())
    assert part(other, "decoder").tied_to is part(other, "encoder")
    assert part(other, "encoder") is not part(model, "encoder")
    before = [w.copy() for w in model.get_weights()]
    results = [trained(compiled(other)), before, trained(compiled(model))]
    for a, b, c in zip(*results, strict=True):
        np.testing.assert_array_equal(a, c)
        assert not np.array_equal(a, b)


def test_a_decoder_alone_takes_the_kernel_along(tmp_path):
    encoder = layers.Dense(3, name="encoder")
    encoder.build((None, 5))
    decoder = keras.Sequential([keras.Input((3,)), TransposedDense(encoder)])
    decoder.save(tmp_path / "decoder.keras")
    loaded = keras.saving.load_model(tmp_path / "decoder.keras")
    x = numbers(2, 3)
    np.testing.assert_array_equal(subjects.array(loaded(x)), subjects.array(decoder(x)))


def test_a_copy_without_the_other_layer_says_so_and_takes_one():
    encoder = layers.Dense(3, name="encoder")
    encoder.build((None, 5))
    decoder = keras.Sequential([keras.Input((3,)), TransposedDense(encoder, name="decoder")])
    clone = keras.models.clone_model(decoder)
    assert clone.output_shape == (None, 5)
    assert clone.layers[0].tied_to is None
    x = numbers(2, 3)
    with pytest.raises(ValueError, match=r"the one layer 'encoder' in the model .* got layer='decoder'. Set `tied_to`"):
        clone(x)
    clone.layers[0].tied_to = encoder
    np.testing.assert_array_equal(subjects.array(clone(x)), subjects.array(decoder(x)))
    other = layers.Dense(2, name="other")
    other.build((None, 5))
    with pytest.raises(ValueError, match=r"the shape of before; got shape=\(5, 2\), before=\(5, 3\)"):
        clone.layers[0].tied_to = other


@pytest.mark.tensorflow
def test_two_replicas_train_as_one_device(strategy):
    results = []
    for scope in (None, strategy):
        keras.utils.set_random_seed(3)
        if scope is None:
            results.append(trained(compiled(nested())))
        else:
            with scope.scope():
                model = compiled(nested())
            results.append(trained(model))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
