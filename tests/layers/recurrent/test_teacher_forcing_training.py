"""Training under teacher forcing and scheduled sampling: what is fed back, and what that costs."""

import keras
import numpy as np
import pytest
from keras import ops
from layers.recurrent.decoder_reference import CELLS, array, filled, ids, normal

import keras_kicks as kk
from keras_kicks.layers.recurrent import feedback_loop
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder
from keras_kicks.layers.recurrent.teacher_forcing_regressor import TeacherForcingRegressor

BATCH, STEPS, VOCABULARY = 4, 6, 5
LOSS = {"from_logits": True}


class Spied(TeacherForcingDecoder):
    """Keeps what was fed back over all steps."""

    def encode(self, fed):
        if len(fed.shape) == 2:
            self.seen = array(fed)
        return super().encode(fed)


def opinionated(kind=Spied, **options):
    """A decoder that always predicts 2."""
    decoder = filled(kind(keras.layers.GRUCell(4), VOCABULARY, scheduled_sampling="argmax", **options))
    decoder.projection.bias.assign(100.0 * np.eye(VOCABULARY)[2])
    return decoder


def models(decoder, units=4):
    """Return the model to train and that to predict with, after an encoder."""
    source, labels = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
    _, *states = keras.layers.LSTM(units, return_state=True)(source)
    states = states[: len(keras.tree.flatten(decoder.cell.state_size))]
    to_train = keras.Model([source, labels], decoder(labels=labels, initial_state=states))
    return to_train, keras.Model(source, decoder(initial_state=states))


def crossentropy(logits, labels):
    loss = keras.losses.SparseCategoricalCrossentropy(**LOSS)
    return float(array(loss(labels, logits)))


@pytest.mark.parametrize("kind", ["argmax", "sample"])
@pytest.mark.parametrize("name", ["LSTM", "stack", "Dense"])
def test_the_extremes_are_teacher_forcing_and_free_running(name, kind):
    make, _, sizes = CELLS[name]
    decoder = filled(TeacherForcingDecoder(make(), VOCABULARY, scheduled_sampling=kind), (None, 2))
    inputs, labels = normal(BATCH, STEPS, 2), ids(VOCABULARY, BATCH, STEPS)
    states = [normal(BATCH, size, seed=i + 1) for i, size in enumerate(sizes)] or None
    taught = array(decoder(inputs, labels, states))
    np.testing.assert_allclose(array(decoder(inputs, labels, states, training=True)), taught, rtol=1e-5, atol=1e-5)
    decoder.teacher_forcing_ratio.assign(0.0)
    if kind == "argmax":
        free = array(decoder(inputs, initial_state=states))
        np.testing.assert_allclose(array(decoder(inputs, labels, states, training=True)), free, rtol=1e-5, atol=1e-5)
    # Only in training.
    np.testing.assert_array_equal(array(decoder(inputs, labels, states)), taught)


def test_the_share_of_labels_is_binomial_and_every_step_of_every_sample_has_its_own_coin():
    decoder = opinionated(teacher_forcing_ratio=0.3, seed=3)
    labels = np.ones((64, 41), "int32")
    decoder(labels=labels, training=True)
    first = decoder.seen
    assert np.all(first[:, 0] == VOCABULARY)  # The start has no coin.
    assert set(np.unique(first[:, 1:])) == {1, 2}
    taught = first[:, 1:] == 1
    count, ratio = taught.size, 0.3
    assert abs(taught.sum() - ratio * count) < 4 * np.sqrt(ratio * (1 - ratio) * count)
    # Sums over steps and over samples scatter as those of independent coins do.
    for axis, n in ((0, 64), (1, 40)):
        sums = taught.sum(axis=axis)
        deviation = np.var(sums) / (n * ratio * (1 - ratio))
        assert abs(deviation - 1) < 4 * np.sqrt(2 / len(sums))
    decoder(labels=labels, training=True)
    assert np.mean(decoder.seen != first) > 0.3


def test_the_same_seed_draws_the_same():
    labels = np.ones((4, 9), "int32")
    seen = []
    for seed in (1, 1, 2):
        decoder = opinionated(teacher_forcing_ratio=0.5, seed=seed)
        decoder(labels=labels, training=True)
        seen.append(decoder.seen)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.any(seen[0] != seen[2])


def test_sampled_tokens_have_the_probabilities_of_the_softmax():
    """A network without inputs besides its own tokens, whose logits do not depend on them."""
    decoder = Spied(keras.layers.Dense(2), VOCABULARY, scheduled_sampling="sample", teacher_forcing_ratio=0.0)
    filled(decoder).projection.kernel.assign(np.zeros((2, VOCABULARY)))
    probabilities = np.array([0.4, 0.1, 0.0, 0.3, 0.2])
    decoder.projection.bias.assign(np.log(probabilities + 1e-30))
    decoder(labels=np.zeros((100, 51), "int32"), training=True)
    counts = np.bincount(decoder.seen[:, 1:].ravel(), minlength=VOCABULARY)
    assert counts[2] == 0
    deviation = np.sqrt(5000 * probabilities * (1 - probabilities))
    assert np.all(np.abs(counts - 5000 * probabilities) <= 4 * deviation)


def test_own_predictions_in_training_are_those_of_inference():
    """Without the dropout of the cell; the pass that is trained on has it."""
    cell = kk.layers.LSTMCell(4, dropout=0.5, recurrent_dropout=0.5, seed=1)
    decoder = filled(Spied(cell, VOCABULARY, 3, scheduled_sampling="argmax", teacher_forcing_ratio=0.0))
    states, labels = [normal(BATCH, 4), normal(BATCH, 4, seed=1)], ids(VOCABULARY, BATCH, STEPS)
    decoder.max_length = STEPS
    free = array(decoder(initial_state=states))
    trained = array(decoder(labels=labels, initial_state=states, training=True))
    np.testing.assert_array_equal(decoder.seen[:, 1:], free.argmax(axis=-1)[:, :-1])
    assert np.abs(trained - free).max() > 1e-2


@pytest.mark.parametrize("kind", [TeacherForcingDecoder, TeacherForcingRegressor])
def test_teacher_forcing_needs_no_loop_over_steps(kind, monkeypatch):
    """A cell without states is called once, with all steps; a recurrent one by a recurrent layer."""
    shapes = []

    class Counted(keras.layers.Dense):
        def call(self, inputs, *args, **kwargs):
            shapes.append(tuple(map(int, inputs.shape)))
            return super().call(inputs, *args, **kwargs)

    def refuse(*args, **kwargs):
        raise AssertionError("a loop over steps")

    tokens = kind is TeacherForcingDecoder
    labels = ids(VOCABULARY, BATCH, STEPS) if tokens else normal(BATCH, STEPS, VOCABULARY)
    monkeypatch.setattr(feedback_loop, "scan", refuse)
    for cell in (Counted(4), kk.layers.LSTMCell(4), [keras.layers.GRUCell(3), keras.layers.GRUCell(4)]):
        decoder = kind(cell, VOCABULARY)
        assert tuple(decoder(labels=labels, training=True).shape) == (BATCH, STEPS, VOCABULARY)
    assert shapes == [(BATCH * STEPS, VOCABULARY + tokens)]


def test_one_layer_serves_two_models(tmp_path):
    """fit, evaluate, predict and files, of unknown batch size and length; labels as inputs and as targets."""
    decoder = TeacherForcingDecoder(
        kk.layers.LSTMCell(4), VOCABULARY, 3, pad_token=0, max_length=STEPS, scheduled_sampling="sample", seed=1
    )
    to_train, to_predict = models(decoder)
    to_train.compile("adam", keras.losses.SparseCategoricalCrossentropy(**LOSS))
    x, y = normal(BATCH, 5, 3), ids(VOCABULARY, BATCH, STEPS)
    decoder.teacher_forcing_ratio.assign(0.5)
    before = [array(w) for w in to_predict.trainable_weights]
    to_train.fit([x, y], y, batch_size=2, verbose=0)
    assert all(np.any(array(w) != b) for w, b in zip(to_predict.trainable_weights, before, strict=True))
    # The loss of an evaluation is that after labels, over those that are no padding.
    counted = y != 0
    expected = crossentropy(array(to_train([x, y]))[counted], y[counted])
    np.testing.assert_allclose(to_train.evaluate([x, y], y, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(to_predict.predict(x, verbose=0), array(to_predict(x)), rtol=1e-5, atol=1e-6)
    for model, inputs in ((to_train, [x, y]), (to_predict, x)):
        path = tmp_path / "model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
        np.testing.assert_array_equal(array(loaded(inputs)), array(model(inputs)))


def test_metrics_of_the_model_that_predicts_are_those_of_a_free_run():
    decoder = filled(TeacherForcingDecoder(keras.layers.LSTMCell(4), VOCABULARY, max_length=STEPS))
    _, to_predict = models(decoder)
    metric = keras.metrics.SparseCategoricalAccuracy()
    to_predict.compile(loss=keras.losses.SparseCategoricalCrossentropy(**LOSS), metrics=[metric])
    x, y = normal(BATCH, 5, 3), ids(VOCABULARY, BATCH, STEPS)
    loss, accuracy = to_predict.evaluate(x, y, verbose=0)
    free = to_predict.predict(x, verbose=0)
    np.testing.assert_allclose(loss, crossentropy(free, y), rtol=1e-5)
    np.testing.assert_allclose(accuracy, np.mean(free.argmax(axis=-1) == y), rtol=1e-5)


@pytest.mark.slow
def test_one_model_learns_and_the_other_predicts():
    """Four sequences, told by their sources, half of the steps after own predictions."""
    sampling = {"scheduled_sampling": "sample", "teacher_forcing_ratio": 0.5, "seed": 1}
    decoder = TeacherForcingDecoder(kk.layers.LSTMCell(16), VOCABULARY, 4, max_length=STEPS, **sampling)
    to_train, to_predict = models(decoder, 16)
    x, y = normal(4, 2, 3), ids(VOCABULARY, 4, STEPS)
    to_train.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(**LOSS))
    to_train.fit([x, y], y, batch_size=4, epochs=60, verbose=0)
    np.testing.assert_array_equal(to_predict.predict(x, verbose=0).argmax(-1), y)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_ratio_takes_effect_in_a_compiled_function_that_is_traced_once(jit_compile):
    traces = []

    class Counted(keras.layers.SimpleRNNCell):
        def call(self, *args, **kwargs):
            traces.append(1)
            return super().call(*args, **kwargs)

    decoder = filled(TeacherForcingDecoder(Counted(4), VOCABULARY, max_length=STEPS, scheduled_sampling="argmax"))
    to_train, to_predict = models(decoder)
    loss = keras.losses.SparseCategoricalCrossentropy(**LOSS)
    to_train.compile(keras.optimizers.SGD(0.0), loss, jit_compile=jit_compile)
    x, y = normal(BATCH, 5, 3), ids(VOCABULARY, BATCH, STEPS)
    expected = {1.0: crossentropy(array(to_train([x, y])), y), 0.0: crossentropy(array(to_predict(x)), y)}
    assert abs(expected[0.0] - expected[1.0]) > 1e-2
    count = None
    for ratio in (1.0, 0.0, 1.0):
        decoder.teacher_forcing_ratio.assign(ratio)
        got = to_train.fit([x, y], y, batch_size=BATCH, verbose=0).history["loss"][0]
        np.testing.assert_allclose(got, expected[ratio], rtol=1e-5)
        assert count is None or len(traces) == count
        count = len(traces)


@pytest.mark.tensorflow
def test_replicas_throw_coins_of_their_own(strategy):
    import tensorflow as tf

    with strategy.scope():
        decoder = opinionated(TeacherForcingDecoder, teacher_forcing_ratio=0.5, seed=1)

        @tf.function
        def run():
            labels = tf.ones((8, 30), tf.int32)
            return strategy.run(lambda: decoder(labels=labels, training=True))

        one, other = (array(x) for x in strategy.experimental_local_results(run()))
    changed = np.abs(one - other).max(axis=-1)[:, 1:] > 1e-6
    assert 0.3 < changed.mean() < 1.0


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["stack", "Dense"])
def test_a_free_run_is_the_same_compiled(name):
    import tensorflow as tf

    decoder = filled(TeacherForcingDecoder(CELLS[name][0](), VOCABULARY, 3, end_token=1), (None, 2))
    x = normal(BATCH, STEPS, 2)
    compiled = tf.function(lambda x: decoder(x), jit_compile=True)(x)
    np.testing.assert_allclose(array(compiled), array(decoder(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.tensorflow
def test_the_graph_does_not_grow_with_the_length():
    import tensorflow as tf

    decoder = TeacherForcingDecoder(kk.layers.LSTMCell(4), VOCABULARY, 3, scheduled_sampling="sample")
    filled(decoder, (None, 2))

    def nodes(steps, training):
        def run(x, labels):
            return decoder(x, labels, training=True) if training else decoder(x)

        specs = tf.TensorSpec((BATCH, steps, 2)), tf.TensorSpec((BATCH, steps), tf.int32)
        graph = tf.function(run).get_concrete_function(*specs).graph
        return len(graph.get_operations()) + sum(len(f.node_def) for f in graph.as_graph_def().library.function)

    for training in (True, False):
        assert nodes(3, training) == nodes(300, training)


@pytest.mark.parametrize("policy", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])
def test_narrow_numbers(policy):
    """A free run is finite and in the compute dtype, past its end too."""
    keras.config.set_dtype_policy(policy)
    decoder = TeacherForcingDecoder(
        [keras.layers.LSTMCell(4), kk.layers.GRUCell(4)],
        VOCABULARY,
        3,
        end_token=1,
        max_length=STEPS,
        scheduled_sampling="sample",
    )
    filled(decoder, (None, 3))
    decoder.projection.bias.assign(100.0 * np.eye(VOCABULARY)[1])
    free = decoder(normal(BATCH, 3))
    assert keras.backend.standardize_dtype(free.dtype) == decoder.compute_dtype
    free = array(ops.cast(free, "float32"))
    assert np.isfinite(free).all()
    assert np.all(free.argmax(axis=-1) == 1)
    assert np.all(free[:, 1:] == np.where(np.arange(VOCABULARY) == 1, 0.0, free[0, 1, 0]))
    taught = decoder(normal(BATCH, 3), ids(VOCABULARY, BATCH, STEPS), training=True)
    assert keras.backend.standardize_dtype(taught.dtype) == decoder.compute_dtype


def test_the_ratio_is_not_rounded(monkeypatch):
    """In bfloat16 it would be 1 here, and the draw less."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    decoder = opinionated(teacher_forcing_ratio=0.999)
    monkeypatch.setattr(feedback_loop, "draw_uniform", lambda shape, *args, **kwargs: ops.full(shape, 0.9995))
    decoder(labels=np.ones((BATCH, STEPS), "int32"), training=True)
    assert np.all(decoder.seen[:, 1:] == 2)
    assert decoder.teacher_forcing_ratio.dtype == "float32"
