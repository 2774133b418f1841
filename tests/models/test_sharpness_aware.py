"""Sharpness-aware minimization, against its algorithm in NumPy and against plain steps."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kicks.models import SharpnessAware

pytestmark = pytest.mark.tensorflow

BATCH, RHO = 10, 0.3


def data(samples=5 * BATCH):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 3)).astype("float32")
    return x, (x @ np.array([[1.0], [-2.0], [3.0]]) + rng.normal(size=(samples, 1))).astype("float32")


def linear():
    net = keras.Sequential([keras.Input((3,)), layers.Dense(1, use_bias=False)])
    net.set_weights([np.array([[0.5], [0.25], [-1.0]])])
    return net


def gradient(w, x, y):
    return 2 * x.T @ (x @ w - y) / len(x)


def algorithm(w, x, y, rate=0.05, momentum=0.0, sample_weight=None):
    """Algorithm 1 of the paper, with steps of (heavy ball) descent."""
    losses, velocity = [], 0.0
    for i in range(0, len(x), BATCH):
        now = x[i : i + BATCH].astype("float64"), y[i : i + BATCH].astype("float64")
        losses.append(np.mean((now[0] @ w - now[1]) ** 2))
        g = gradient(w, *now)
        velocity = momentum * velocity - rate * gradient(w + RHO * g / np.linalg.norm(g), *now)
        w = w + velocity
    return w, np.mean(losses)


SETTINGS = {
    "graph": {},
    "eager": {"run_eagerly": True},
    "jit": {"jit_compile": True},
    "steps": {"steps_per_execution": 2},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_the_algorithm_of_the_paper(setting, momentum):
    (x, y), net = data(), linear()
    expected, loss = algorithm(net.get_weights()[0].astype("float64"), x, y, momentum=momentum)
    sam = SharpnessAware(net, RHO)
    sam.compile(keras.optimizers.SGD(0.05, momentum), "mse", **SETTINGS[setting])
    history = sam.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_allclose(net.get_weights()[0], expected, rtol=1e-5)
    assert history.history["loss"][0] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_two_replicas_make_the_step_of_one_device(strategy, scaled):
    (x, y), net = data(), linear()
    expected, loss = algorithm(net.get_weights()[0].astype("float64"), x, y)
    with strategy.scope():
        sam = SharpnessAware(linear(), RHO)
        optimizer = keras.optimizers.SGD(0.05)
        sam.compile(keras.optimizers.LossScaleOptimizer(optimizer, 8.0) if scaled else optimizer, "mse")
    history = sam.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_allclose(sam.model.get_weights()[0], expected, rtol=1e-5)
    assert history.history["loss"][0] == pytest.approx(loss, rel=1e-5)


def test_the_scale_of_the_loss_does_not_matter():
    (x, y), nets = data(), [linear(), linear()]
    for net, scale in zip(nets, (1.0, 1e-24), strict=True):
        sam = SharpnessAware(net, RHO)
        sam.compile(keras.optimizers.SGD(0.01 / scale), lambda y, p, s=scale: s * keras.ops.mean((y - p) ** 2))
        sam.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_allclose(nets[0].get_weights()[0], nets[1].get_weights()[0], rtol=1e-4)


def noisy(seed=3):
    keras.utils.set_random_seed(seed)
    hidden = [layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dropout(0.5, seed=1)]
    return keras.Sequential([keras.Input((3,)), *hidden, layers.Dense(1)])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_with_a_tiny_radius_it_is_the_plain_step(jit_compile):
    """With dropout and batch normalization: both passes draw the same, and the statistics move once."""
    (x, y), trained = data(), []
    for around in (lambda net: net, lambda net: SharpnessAware(net, 1e-7)):
        net = noisy()
        whole = around(net)
        whole.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"], jit_compile=jit_compile)
        history = whole.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0).history
        trained.append((net.get_weights(), history))
    for a, b in zip(trained[0][0], trained[1][0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for name in ("loss", "mae"):
        np.testing.assert_allclose(trained[0][1][name], trained[1][1][name], rtol=1e-4)


def test_a_model_that_builds_itself_in_its_call():
    class Undeclared(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    x, y = data()
    model = SharpnessAware(Undeclared())
    model.build((None, 3))
    assert [tuple(w.shape) for w in model.trainable_weights] == [(3, 1), (1,)]
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(x, y, verbose=0)
    assert model.compute_output_shape((None, 3)) == (None, 1)


def test_statistics_are_those_of_the_first_pass():
    (x, y), net = data(BATCH), noisy()
    kernel, bias = net.layers[0].get_weights()
    sam = SharpnessAware(net, 5.0)
    sam.compile("sgd", "mse")
    sam.fit(x, y, batch_size=BATCH, verbose=0)
    mean = np.maximum(x @ kernel + bias, 0).mean(axis=0)
    np.testing.assert_allclose(net.layers[1].moving_mean.numpy(), 0.01 * mean, rtol=1e-4, atol=1e-7)


def test_a_gradient_of_zero_and_a_weight_without_one():
    class Idle(layers.Dense):
        def call(self, x, training=None):
            return x

    net = keras.Sequential([keras.Input((3,)), Idle(3), layers.Dense(1, kernel_initializer="zeros")])
    sam = SharpnessAware(net, RHO)
    sam.compile("sgd", "mse")
    before = net.get_weights()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        sam.train_on_batch(np.ones((4, 3)), np.zeros((4, 1)))
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def height(w):
    """A narrow valley at 0, in the slope towards a flat one at 3."""
    return 0.1 * (w - 3.0) ** 2 - 1.5 * keras.ops.exp(-((w / 0.15) ** 2))


class Curve(layers.Layer):
    """The height at a weight; the input is not used."""

    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.12), name="w")

    def call(self, x):
        return keras.ops.ones_like(x) * height(self.w)


def test_it_finds_weights_in_whose_neighborhood_the_loss_is_low():
    """Which descent does not, that ends at the bottom of the narrow valley."""
    rho, worst = 0.6, {}
    for name in ("descent", "sam"):
        net = keras.Sequential([keras.Input((1,)), Curve()])
        whole = net if name == "descent" else SharpnessAware(net, rho)
        whole.compile(keras.optimizers.SGD(0.01), lambda y, p: keras.ops.mean(p))
        whole.fit(np.ones((600, 1)), np.ones((600, 1)), batch_size=1, epochs=2, verbose=0)
        around = float(net.layers[0].w) + np.linspace(-rho, rho, 1001)
        worst[name] = np.max(keras.ops.convert_to_numpy(height(around)))
    assert worst["descent"] == pytest.approx(0.1 * (3 + rho) ** 2, rel=0.02)
    assert worst["sam"] < 0.6 * worst["descent"]


def test_it_is_saved_and_goes_on(tmp_path):
    (x, y), arguments = data(), {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    sam = SharpnessAware(linear(), RHO)
    sam.compile(keras.optimizers.Adam(0.05), "mse")
    sam.fit(x, y, **arguments)
    sam.save(tmp_path / "sam.keras")
    again = keras.models.load_model(tmp_path / "sam.keras")
    for model in (sam, again):
        model.fit(x, y, **arguments)
    np.testing.assert_array_equal(sam.get_weights()[0], again.get_weights()[0])
    assert again.rho == RHO


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rho": 0.0}, ValueError, "expected rho > 0; got rho=0.0"),
        ({"rho": float("nan")}, ValueError, "expected a finite rho"),
        ({"rho": "small"}, TypeError, "expected a number for rho"),
        ({"model": "net"}, TypeError, "expected a keras model; got model='net'"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=f"SharpnessAware: {message}"):
        SharpnessAware(**{"model": linear(), **arguments})
