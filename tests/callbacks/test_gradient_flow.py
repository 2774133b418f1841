"""The gradients that are sampled in `fit`, against those of a tape around the same steps."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kicks.callbacks import GradientFlow
from keras_kicks.callbacks.gradient_statistics import BUCKETS, decoded, rows
from keras_kicks.layers import LSTM
from keras_kicks.models import TruncatedBPTT
from keras_kicks.optimizers import Adam, GradientClipping

pytestmark = pytest.mark.tensorflow

BATCH = 8


class Samples(GradientFlow):
    """Keeps all samples, by step."""

    def on_train_begin(self, logs=None):
        self.kept = getattr(self, "kept", {})
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        self.kept.update({sample.step: sample for sample in self._samples})
        super().on_epoch_end(epoch, logs)


def data(n=6 * BATCH):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 6)).astype("float32"), rng.normal(size=(n, 1)).astype("float32")


def network():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "sigmoid", name="first", kernel_initializer=keras.initializers.RandomNormal(stddev=3.0)),
            layers.Dense(7, name="second", bias_initializer=keras.initializers.RandomNormal(stddev=2.0)),
            layers.ReLU(name="relu"),
            layers.Dense(1, name="last"),
        ]
    )


def norm(tensors):
    return np.sqrt(sum((np.asarray(tensor, "float64") ** 2).sum() for tensor in tensors))


def reference(net, optimizer, x, y, batch=BATCH):
    """Make the steps with a tape; return [gradients, weights before, weights after, outputs of layers] of each."""
    import tensorflow as tf

    twin = keras.models.clone_model(net)
    twin.set_weights(net.get_weights())
    inside = keras.Model(twin.inputs[0], {layer.name: layer.output for layer in twin.layers})
    steps = []
    for i in range(0, len(x), batch):
        with tf.GradientTape() as tape:
            outputs = inside(x[i : i + batch], training=True)
            loss = tf.reduce_mean(tf.square(tf.cast(outputs[twin.layers[-1].name], tf.float32) - y[i : i + batch]))
        gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, twin.trainable_variables)]
        before = [v.numpy() for v in twin.trainable_variables]
        optimizer.apply([tf.convert_to_tensor(g) for g in gradients], twin.trainable_variables)
        after = [v.numpy() for v in twin.trainable_variables]
        steps.append((gradients, before, after, {name: output.numpy() for name, output in outputs.items()}))
    return steps


def expect_same(samples, steps, rtol=1e-5, names=("first", "second", "last")):
    for step, sample in samples.items():
        gradients, before, after, _ = steps[step]
        for i, name in enumerate(names):
            two = slice(2 * i, 2 * i + 2)
            numbers = sample.numbers(name)
            assert numbers["gradient_norm"] == pytest.approx(norm(gradients[two]), rel=rtol)
            change = norm([a - b for a, b in zip(after[two], before[two], strict=True)])
            # A difference of numbers that are nearly equal has fewer digits.
            assert numbers["update_ratio"] == pytest.approx(change / norm(before[two]), rel=100 * rtol, abs=1e-7)
        assert sample.gradient_norm == pytest.approx(norm(gradients), rel=rtol)


SGD = keras.optimizers.SGD
SETTINGS = {
    "graph": (lambda: SGD(0.1), {}),
    "eager": (lambda: SGD(0.1), {"run_eagerly": True}),
    "jit": (lambda: SGD(0.1), {"jit_compile": True}),
    "momentum": (lambda: SGD(0.1, momentum=0.9), {"jit_compile": False}),
    "chain": (lambda: Adam(0.1), {}),
    "steps": (lambda: SGD(0.1), {"steps_per_execution": 3}),
    "jit of steps": (lambda: SGD(0.1), {"steps_per_execution": 3, "jit_compile": True}),
    "clipped": (lambda: SGD(0.1, global_clipnorm=0.01), {}),
    "clipped around": (lambda: GradientClipping(SGD(0.1), limit=0.01), {}),
    "average": (lambda: SGD(0.1, use_ema=True, ema_overwrite_frequency=2), {}),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_samples_are_what_a_tape_sees(setting):
    optimizer, arguments = SETTINGS[setting]
    net, flow = network(), Samples(sample_freq=2)
    (x, y), steps = data(), reference(net, optimizer(), *data())
    net.compile(optimizer(), "mse", **arguments)
    net.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[flow])
    # With three steps in one execution, there is one sample in each.
    assert list(flow.kept) == ([0, 3] if "steps" in setting else [0, 2, 4])
    expect_same(flow.kept, steps)


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.1), lambda: SGD(0.1, global_clipnorm=0.1), lambda: Adam(0.1)])
def test_two_replicas_show_the_gradient_of_the_whole_batch(strategy, optimizer):
    net, flow = network(), Samples(sample_freq=2)
    (x, y), steps = data(), reference(net, optimizer(), *data())
    with strategy.scope():
        copy = network()
        copy.compile(optimizer(), "mse")
    copy.set_weights(net.get_weights())
    copy.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[flow])
    assert flow.kept[0].gradient_norm == pytest.approx(norm(steps[0][0]), rel=1e-5)
    # Keras clips what each replica has, and makes other steps than on one device.
    if copy.optimizer.global_clipnorm is None:
        expect_same(flow.kept, steps, rtol=1e-4)
    first, relu = steps[0][3]["first"], steps[0][3]["relu"]
    assert flow.kept[0].shares["relu"] == pytest.approx(np.mean((relu == 0).all(axis=0)))
    assert flow.kept[0].shares["first"] == pytest.approx(np.mean(first * (1 - first) < 0.025))


def three_biases(shape, dtype=None):
    return keras.ops.convert_to_tensor([0.0, 9.0, -9.0], dtype)


def test_a_unit_that_lives_on_one_replica_is_alive(strategy):
    flow = Samples(sample_freq=1)
    with strategy.scope():
        relu = layers.Dense(3, "relu", kernel_initializer="ones", bias_initializer=three_biases)
        net = keras.Sequential([keras.Input((1,)), relu, layers.Dense(1)])
        net.compile("sgd", "mse")
    net.fit(np.array([[-1.0], [-1.0], [1.0], [1.0]]), np.zeros((4, 1)), shuffle=False, verbose=0, callbacks=[flow])
    assert flow.kept[0].shares[relu.name] == pytest.approx(1 / 3)


def test_norms_of_earlier_epochs_are_what_a_later_one_is_compared_with():
    net, flow, norms = network(), Samples(sample_freq=1), []
    net.compile("sgd", "mse")
    for _ in range(2):
        net.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[flow])
        norms.append(flow.report.norms)
    assert flow.report.before == pytest.approx(np.median(norms[0]))
    assert norms[1] == tuple(sample.gradient_norm for step, sample in flow.kept.items() if step >= 6)


@pytest.mark.parametrize("scale", [3e38, 1.0, 1e-30])
def test_statistics_of_any_scale(scale):
    values = np.array([-1.0, -0.5, 0.0, 0.25, 1.0], "float32") * np.float32(scale)
    (row,) = rows([values], [np.zeros(5, "float32")], [np.ones(5, "float32")], [None])
    found = decoded(row.numpy())
    assert found.gradient_norm == pytest.approx(float(norm([values])) if scale < 1e38 else np.inf, rel=1e-5)
    assert found.counts.nonzero()[0].tolist() == [0, 7, 15, 18, 29]


def test_loss_scaling_is_taken_out():
    keras.config.set_dtype_policy("mixed_float16")
    net, flow = network(), Samples(sample_freq=2)
    (x, y), steps = data(), reference(net, SGD(0.01), *data())
    net.compile(keras.optimizers.LossScaleOptimizer(SGD(0.01), initial_scale=16.0), "mse")
    net.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[flow])
    for step, sample in flow.kept.items():
        assert sample.gradient_norm == pytest.approx(norm(steps[step][0]), rel=0.02)


@pytest.mark.parametrize(("huge", "verdict"), [(1, "healthy"), (6, "exploding")])
def test_where_the_loss_is_scaled_some_steps_may_overflow(huge, verdict):
    net, flow, (x, y) = network(), Samples(sample_freq=1), data()
    y[: huge * BATCH] = 1e36
    net.compile(keras.optimizers.LossScaleOptimizer(SGD(0.01)), "mse")
    net.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[flow])
    assert [np.isinf(sample.gradient_norm) for sample in flow.kept.values()] == [True] * huge + [False] * (6 - huge)
    assert flow.report.verdict == verdict


def test_a_constant_scale_of_the_loss_is_taken_out():
    net, flow = network(), Samples(sample_freq=2)
    (x, y), steps = data(), reference(net, SGD(0.1), *data())
    net.compile(SGD(0.1, loss_scale_factor=64.0), "mse")
    net.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[flow])
    for step, sample in flow.kept.items():
        assert sample.gradient_norm == pytest.approx(norm(steps[step][0]), rel=1e-5)


@pytest.mark.parametrize("around", [lambda o: o, lambda o: GradientClipping(o, limit=100.0)])
@pytest.mark.parametrize("per_execution", [1, 2])
def test_with_accumulation_those_steps_are_sampled_that_update(around, per_execution):
    def optimizer():
        return around(SGD(0.1, gradient_accumulation_steps=3))

    net, flow = network(), Samples(sample_freq=1)
    (x, y), steps = data(), reference(net, optimizer(), *data())
    net.compile(optimizer(), "mse", steps_per_execution=per_execution)
    net.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[flow])
    assert list(flow.kept) == [2, 5]
    expect_same(flow.kept, steps)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_shares_and_histograms_are_those_of_numpy(jit_compile):
    net, flow = network(), Samples(sample_freq=3)
    (x, y), steps = data(), reference(net, SGD(0.1), *data())
    net.compile(SGD(0.1), "mse", jit_compile=jit_compile)
    net.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[flow])
    assert set(flow.kept[0].shares) == {"first", "relu"}
    dead = []
    for step, sample in flow.kept.items():
        gradients, _, _, values = steps[step]
        dead.append(np.mean((values["relu"] == 0).all(axis=0)))
        assert sample.shares["relu"] == pytest.approx(dead[-1])
        slope = values["first"] * (1 - values["first"])
        assert 0 < np.mean(slope < 0.025) < 1
        assert sample.shares["first"] == pytest.approx(np.mean(slope < 0.1 * 0.25))
        for i, (name, variable) in enumerate((n, v) for n in ("first", "second", "last") for v in ("kernel", "bias")):
            low, high, counts = sample.statistics[name][variable].histogram.T
            gradient = gradients[i].astype("float64").ravel()
            if gradient.max() == gradient.min():
                assert counts[-1] == gradient.size
            else:
                expected, edges = np.histogram(gradient, BUCKETS)
                # A number at an edge may be in either bucket.
                assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1
                np.testing.assert_allclose([*low, high[-1]], edges, rtol=1e-3, atol=1e-6)
            assert counts.sum() == gradient.size
    assert max(dead) > 0


def test_a_large_variable_has_a_histogram_of_evenly_spaced_elements():
    height, width = 512, 1024
    net = keras.Sequential([keras.Input((height,)), layers.Dense(width, use_bias=False, name="wide")])
    net.compile(SGD(0.0), "mse")
    # Every 16th column is another than the rest, and an element of 16 is kept.
    x, y = np.random.default_rng(1).normal(size=(BATCH, height)), np.zeros((BATCH, width))
    y[:, ::16] = 50.0
    flow = Samples(sample_freq=1)
    net.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[flow])
    low, _, counts = flow.kept[0].statistics["wide"]["kernel"].histogram.T
    gradient = reference(net, SGD(0.0), x, y)[0][0][0].ravel()
    assert 2**14 < counts.sum() <= 2**15
    expected, _ = np.histogram(gradient, BUCKETS)
    np.testing.assert_allclose(counts / counts.sum(), expected / expected.sum(), atol=0.01)
    assert low[0] == pytest.approx(gradient.min(), rel=1e-6)


def test_an_embedding_has_the_gradient_of_rows_that_come_twice():
    net = keras.Sequential(
        [keras.Input((3,)), layers.Embedding(50, 4, name="rows"), layers.Flatten(), layers.Dense(1, name="last")]
    )
    net.compile(SGD(0.1), "mse")
    x, y = np.array([[1, 1, 2], [1, 7, 7]]), np.array([[1.0], [2.0]], "float32")
    steps, flow = reference(net, SGD(0.1), x, y), Samples(sample_freq=1)
    net.fit(x, y, verbose=0, callbacks=[flow])
    table = flow.kept[0].statistics["rows"]["embeddings"]
    gradient = steps[0][0][0]
    assert table.gradient_norm == pytest.approx(norm([gradient]), rel=1e-5)
    # The verdict does not take a table for vanished because a batch has touched three of its rows.
    assert flow.report["rows"].gradient_rms == pytest.approx(norm([gradient]) / np.sqrt(3 * 4), rel=1e-5)


def noisy():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(1, "sigmoid"),
        ]
    )


@pytest.mark.parametrize("arguments", [{}, {"run_eagerly": True}, {"steps_per_execution": 2}])
def test_training_goes_on_as_without_it(arguments):
    trained = []
    for callbacks in ([], [GradientFlow(sample_freq=2)]):
        net = noisy()
        net.compile(keras.optimizers.Adam(0.01), "mse", **arguments)
        history = net.fit(*data(), batch_size=BATCH, epochs=2, verbose=0, callbacks=callbacks)
        trained.append((history.history["loss"], net.get_weights()))
    assert trained[0][0] == trained[1][0]
    for a, b in zip(trained[0][1], trained[1][1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_steps_between_are_made_by_the_function_of_keras():
    net, flow = network(), Samples(sample_freq=3)
    net.compile("sgd", "mse")
    net.make_train_function()
    plain, calls = net.train_function, []
    net.train_function = lambda iterator: (calls.append(len(calls)), plain(iterator))[1]
    own = net.train_function
    net.fit(*data(), batch_size=BATCH, epochs=2, verbose=0, callbacks=[flow])
    assert list(flow.kept) == [0, 3, 6, 9]
    assert len(calls) == 12 - 4
    assert net.train_function is own


def test_it_goes_on_in_a_second_fit_and_compiles_once():
    net, flow, traces = network(), Samples(sample_freq=4), []
    net.layers[0].activation = lambda x: (traces.append(1), keras.ops.sigmoid(x))[1]
    net.compile("sgd", "mse")
    for _ in range(3):
        net.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[flow])
    assert list(flow.kept) == [0, 4, 8, 12, 16]
    assert len(traces) == 2  # The function of Keras, and that which records.


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_after_an_interrupted_fit_it_goes_on():
    net, flow = network(), Samples(sample_freq=1)
    net.compile("sgd", "mse")
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[Interrupt(), flow])
    # Without the callback, nothing is sampled; a new one finds its place.
    before = net.train_function
    net.fit(*data(), batch_size=BATCH, verbose=0)
    other = Samples(sample_freq=2)
    net.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[other])
    assert list(other.kept) == [0, 2, 4]
    net.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[flow])
    assert len(flow.kept) == 6
    assert net.train_function is not before


class Unfreeze(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.layers[0].trainable = True
            self.model.optimizer = SGD(0.1)
            self.model.make_train_function(force=True)


def test_a_layer_that_is_trained_from_the_second_epoch_on():
    net, flow = network(), Samples(sample_freq=2)
    net.layers[0].trainable = False
    net.compile("sgd", "mse")
    net.fit(*data(), batch_size=BATCH, epochs=2, verbose=0, callbacks=[flow, Unfreeze()])
    assert [set(sample.statistics) for sample in flow.kept.values()] == [{"second", "last"}] * 3 + [
        {"first", "second", "last"}
    ] * 3
    assert not hasattr(net.train_function, "record")


def test_a_model_that_is_saved_in_between_has_its_own_activations(tmp_path):
    net, path = network(), tmp_path / "{batch}.keras"
    net.compile("sgd", "mse")
    saver = keras.callbacks.ModelCheckpoint(str(path), save_freq=1)
    net.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[GradientFlow(sample_freq=1), saver])
    assert net.layers[0].activation is keras.activations.sigmoid
    assert "call" not in vars(net.layers[2])
    assert "apply" not in vars(net.optimizer)
    keras.models.load_model(tmp_path / "6.keras")


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_that_end_within_an_execution():
    x, y = data()

    def batches():
        for i in range(5):
            yield x[i * BATCH : (i + 1) * BATCH], y[i * BATCH : (i + 1) * BATCH]

    net, flow = network(), Samples(sample_freq=3)
    net.compile("sgd", "mse", steps_per_execution=4)
    for _ in range(2):
        net.fit(batches(), shuffle=False, verbose=0, callbacks=[flow])
    assert len(flow.kept) >= 3
    assert all(np.isfinite(sample.gradient_norm) for sample in flow.kept.values())


@pytest.mark.parametrize("kind", [LSTM, layers.LSTM, layers.SimpleRNN])
def test_a_recurrent_network_has_its_gradients_and_no_shares(kind):
    net = keras.Sequential([keras.Input((None, 3)), kind(4, name="ours"), layers.Dense(2, "tanh", name="out")])
    net.compile("sgd", "mse")
    flow = Samples(sample_freq=1)
    net.fit(np.ones((8, 5, 3)), np.ones((8, 2)), verbose=0, callbacks=[flow])
    # Its tanh stays what the choice of the loop looks for.
    assert set(flow.kept[0].shares) == {"out"}
    assert all(layer.gradient_norm > 0 for layer in flow.report.layers)
    assert len(flow.report.layers) == 2


def test_an_activation_in_a_loop_or_in_a_function_is_not_seen():
    import tensorflow as tf

    class Hidden(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.activation = keras.activations.tanh

        def call(self, x):
            return tf.function(lambda x: self.activation(x))(x)

    net = keras.Sequential([keras.Input((6,)), Hidden(name="hidden"), layers.Dense(1, "sigmoid", name="out")])
    net.compile("sgd", "mse")
    flow = Samples(sample_freq=1)
    net.fit(*data(), verbose=0, callbacks=[flow])
    assert np.isnan(flow.kept[0].shares["hidden"])
    assert [layer.path for layer in flow.report.layers] == ["out"]
    assert flow.report["out"].saturated >= 0


def test_a_shared_activation_is_counted_over_all_of_its_calls():
    x = keras.Input((2,))
    relu = layers.ReLU(name="relu")
    scale = layers.Dense(2, name="scale", kernel_initializer="identity")
    net = keras.Model(x, layers.Dense(1)(relu(scale(x)) + relu(-scale(x))))
    net.compile(SGD(0.0), "mse")
    flow = Samples(sample_freq=1)
    net.fit(np.array([[1.0, -1.0], [2.0, 0.0]]), np.zeros((2, 1)), verbose=0, callbacks=[flow])
    assert flow.kept[0].shares["relu"] == 0  # The second unit is alive in the second call only.


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_units_of_a_convolution_are_its_channels(data_format):
    shape = (4, 4, 1) if data_format == "channels_last" else (1, 4, 4)
    bias = keras.initializers.get(lambda shape, dtype: keras.ops.convert_to_tensor([-9.0, 9.0, -9.0, 9.0, 9.0], dtype))
    conv = layers.Conv2D(5, 1, activation="relu", bias_initializer=bias, data_format=data_format, name="conv")
    net = keras.Sequential([keras.Input(shape), conv, layers.Flatten(), layers.Dense(1)])
    net.compile("sgd", "mse")
    flow = Samples(sample_freq=1)
    net.fit(np.ones((2, *shape)), np.zeros((2, 1)), verbose=0, callbacks=[flow])
    assert flow.kept[0].shares["conv"] == pytest.approx(2 / 5)


def test_truncated_backpropagation_shows_its_last_chunk():
    net = keras.Sequential([keras.Input((None, 3)), LSTM(4, return_sequences=True), layers.Dense(2, name="out")])
    chunked = TruncatedBPTT(net, 3)
    chunked.compile("sgd", "mse")
    flow = Samples(sample_freq=1)
    chunked.fit(np.ones((8, 9, 3)), np.ones((8, 9, 2)), verbose=0, callbacks=[flow])
    assert flow.report.verdict in ("healthy", "unknown")
    assert all(layer.gradient_norm > 0 for layer in flow.report.layers if layer.path.endswith("out"))


class Idle(layers.Dense):
    """Has weights that it does not use."""

    def call(self, x, training=None):
        return x


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_frozen_layer_is_left_out_and_one_without_gradient_is_named():
    parts = [layers.Dense(6, name="frozen", trainable=False), Idle(6, name="idle"), layers.Dense(6, name="free")]
    net = keras.Sequential([keras.Input((6,)), *parts, layers.Dense(1, name="out")])
    net.compile("sgd", "mse")
    flow = Samples(sample_freq=1)
    net.fit(*data(), verbose=0, callbacks=[flow])
    assert [layer.path for layer in flow.report.layers] == ["idle", "free", "out"]
    assert flow.report["idle"].gradient_norm == 0
    assert "No gradient reaches idle." in flow.report.reasons


def test_not_finite_gradients_are_told():
    net, flow = network(), Samples(sample_freq=1)
    net.compile(GradientClipping(SGD(0.1), limit=1.0, non_finite="skip"), "mse")
    x, y = data()
    x[0, 0] = np.inf
    net.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[flow])
    assert flow.report.verdict == "exploding"
    assert "not finite in first" in flow.report.reasons[0]
    assert np.isinf(flow.kept[0].gradient_norm)
    assert np.isfinite(flow.kept[1].gradient_norm)
    assert flow.kept[0].numbers("first")["update_ratio"] == 0


class OwnStep(keras.Model):
    """Trains with an optimizer that is not that of `compile`."""

    def __init__(self):
        super().__init__()
        self.dense, self.own = layers.Dense(1), SGD(0.1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(data[0]) - data[1]))
        self.own.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


ELSEWHERE = (
    r"GradientFlow: expected a step made by model.optimizer; got step=[01]. Let train_step call optimizer.apply, and "
    r"use one GradientFlow at a time."
)


def test_a_step_by_another_optimizer_is_refused():
    net = OwnStep()
    net.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match=ELSEWHERE):
        net.fit(*data(), verbose=0, callbacks=[GradientFlow()])


def test_two_at_a_time_are_refused():
    net = network()
    net.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match=ELSEWHERE):
        net.fit(*data(), verbose=0, callbacks=[GradientFlow(), GradientFlow()])


@pytest.mark.parametrize("value", [0, -1])
def test_a_frequency_below_one_is_refused(value):
    with pytest.raises(ValueError, match=f"GradientFlow: expected sample_freq >= 1; got sample_freq={value}"):
        GradientFlow(sample_freq=value)


@pytest.mark.parametrize("value", [None, 1.5, True, "often"])
def test_a_frequency_that_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="GradientFlow: expected an integer for sample_freq"):
        GradientFlow(sample_freq=value)


def test_a_model_that_is_not_compiled_is_refused():
    flow = GradientFlow()
    flow.set_model(network())
    rule = r"GradientFlow: expected a compiled model; got compiled=False. Call model.compile\(...\) first."
    with pytest.raises(ValueError, match=rule):
        flow.on_train_begin()


def test_a_model_that_its_first_step_builds():
    net, flow = keras.Sequential([layers.Dense(1, name="only")]), Samples(sample_freq=2)
    net.compile("sgd", "mse")
    net.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[flow])
    assert list(flow.kept) == [1, 3, 5]


def test_a_model_without_trainable_weights_is_refused():
    net = network()
    net.trainable = False
    net.compile("sgd", "mse")
    with pytest.raises(ValueError, match="GradientFlow: expected a model with trainable weights"):
        net.fit(*data(), verbose=0, callbacks=[GradientFlow()])
