"""Truncated backpropagation through time, against a tape over cells that are called one by one."""

import keras
import numpy as np
import pytest

import keras_kicks as kk
from keras_kicks.models import TruncatedBPTT

pytestmark = pytest.mark.tensorflow

STEPS = 11
RATE = 0.5


def data(batch=4, steps=STEPS, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, steps, 3)).astype("float32"), rng.normal(size=(batch, steps, 2)).astype("float32")


def network(masked=False):
    """Two recurrent layers, one of ours and one of Keras, and a regularizer."""
    keras.utils.set_random_seed(1)
    layers = [kk.layers.LSTM(5, return_sequences=True), keras.layers.GRU(4, return_sequences=True)]
    first = [keras.layers.Masking()] if masked else []
    return keras.Sequential([keras.Input((None, 3)), *first, *layers, keras.layers.Dense(2, kernel_regularizer="l2")])


def trained(model, batches, k1, k2=None, jit_compile=False, optimizer=None, **options):
    """Fit on the batches, each once, and return the model around."""
    tbptt = TruncatedBPTT(model, k1, k2, **options)
    tbptt.compile(optimizer or keras.optimizers.SGD(RATE), "mse", metrics=["mae"], jit_compile=jit_compile)
    for x, *rest in batches:
        tbptt.fit(x, *rest, batch_size=len(keras.tree.flatten(x)[0]), shuffle=False, verbose=0)
    return tbptt


def by_hand(model, batches, k1, k2, updates, stateful=False):
    """The same with one tape for each chunk, over cells that are called step by step; returns the weights."""
    import tensorflow as tf

    lstm, gru, dense = model.layers

    def run(x, states):
        h, c, g = states
        rows = []
        for t in range(x.shape[1]):
            y, (h, c) = lstm.cell(x[:, t], [h, c])
            y, (g,) = gru.cell(y, [g])
            rows.append(dense(y))
        return tf.stack(rows, axis=1), (h, c, g)

    last = None
    for x, y in batches:
        zeros = tuple(tf.zeros((len(x), width)) for width in (5, 5, 4))
        states, total = {0: last if stateful and last is not None else zeros}, None
        for start in range(0, x.shape[1], k1):
            end, begin = min(start + k1, x.shape[1]), max(0, start - (k2 - k1))
            with tf.GradientTape() as tape:
                _, now = run(x[:, begin:start], states[begin]) if begin < start else (None, states[begin])
                y_pred, now = run(x[:, start:end], now)
                loss = tf.reduce_mean(tf.square(y_pred - y[:, start:end])) + 0.01 * tf.reduce_sum(dense.kernel**2)
            last = states[end] = tuple(map(tf.stop_gradient, now))
            gradients = tape.gradient(loss, [v.value for v in model.trainable_weights])
            if updates == "chunk":
                for v, g in zip(model.trainable_weights, gradients, strict=True):
                    v.assign_sub(RATE * g)
            else:
                parts = [(end - start) / x.shape[1] * g for g in gradients]
                total = parts if total is None else [a + b for a, b in zip(total, parts, strict=True)]
        if updates == "sequence":
            for v, g in zip(model.trainable_weights, total, strict=True):
                v.assign_sub(RATE * g)
    return model.get_weights()


def expect_weights(model, expected, atol=1e-6):
    for a, b in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


SETTINGS = [(3, 3, "chunk"), (2, 6, "chunk"), (4, 8, "sequence"), (20, 40, "chunk")]


@pytest.mark.parametrize(("k1", "k2", "updates"), SETTINGS)
def test_weights_are_those_of_a_tape_for_each_chunk(k1, k2, updates):
    batches = [data(seed=seed) for seed in range(2)]
    tbptt = trained(network(), batches, k1, k2, updates=updates)
    expect_weights(tbptt.model, by_hand(network(), batches, k1, k2, updates))


@pytest.mark.slow
def test_and_compiled():
    batches = [data(seed=seed) for seed in range(2)]
    tbptt = trained(network(), batches, 3, 6, updates="sequence", jit_compile=True)
    expect_weights(tbptt.model, by_hand(network(), batches, 3, 6, "sequence"))


@pytest.mark.parametrize("updates", ["chunk", "sequence"])
def test_one_chunk_is_what_fit_does(updates):
    """k = T is backpropagation through time; also with sample weights, a mask and Adam."""
    x, y = data()
    x[0, 7:] = x[2, 2:] = 0
    weights = np.random.default_rng(2).random((4, STEPS))
    stock = network(masked=True)
    stock.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=False)
    stock.fit(x, y, sample_weight=weights, batch_size=4, verbose=0)
    tbptt = TruncatedBPTT(network(masked=True), STEPS, updates=updates)
    tbptt.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=False)
    tbptt.fit(x, y, sample_weight=weights, batch_size=4, verbose=0)
    expect_weights(tbptt.model, stock.get_weights())


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_reported_is_a_mean_over_all_steps(masked):
    """In chunks of 4, 4 and 3 steps; a metric weighs a chunk with a mask by its size, as Keras weighs a batch."""
    x, y = data()
    if masked:
        x[1, 5:] = 0
    stock, tbptt = network(masked), TruncatedBPTT(network(masked), 4)
    stock.compile("sgd", "mse", metrics=["mae"])
    tbptt.compile("sgd", "mse", metrics=["mae"])
    expected, got = (model.evaluate(x, y, verbose=0) for model in (stock, tbptt))
    np.testing.assert_allclose(got[: 1 if masked else 2], expected[: 1 if masked else 2], rtol=1e-5)
    np.testing.assert_allclose(tbptt.predict(x, verbose=0), stock.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_sequence_that_ended_neither_moves_nor_teaches():
    """A batch of ragged sequences has the gradient of each alone, weighted by its steps."""
    x, y = data(batch=2)
    x[1, 4:] = 0
    both = trained(network(masked=True), [(x, y)], 4, updates="sequence")
    before = network(masked=True).get_weights()
    moves = []
    for row, steps in ((0, STEPS), (1, 4)):
        alone = trained(
            network(masked=True), [(x[row : row + 1, :steps], y[row : row + 1, :steps])], 4, updates="sequence"
        )
        moves.append([a - b for a, b in zip(alone.model.get_weights(), before, strict=True)])
    expected = [b + (STEPS * m + 4 * n) / (STEPS + 4) for b, m, n in zip(before, *moves, strict=True)]
    expect_weights(both.model, expected)


def test_states_flow_from_batch_to_batch_and_are_reset():
    x, y = data(steps=18)
    batches = [(x[:, :6], y[:, :6]), (x[:, 6:12], y[:, 6:12]), (x[:, 12:], y[:, 12:])]
    tbptt = trained(network(), batches, 3, stateful=True)
    expect_weights(tbptt.model, by_hand(network(), batches, 3, 3, "chunk", stateful=True))
    assert np.abs(tbptt.carried_states[0].numpy()).max() > 0
    before = [state.numpy() for state in tbptt.carried_states]
    tbptt.evaluate(*batches[0], verbose=0)
    tbptt.predict(batches[0][0], verbose=0)
    for state, old in zip(tbptt.carried_states, before, strict=True):
        np.testing.assert_array_equal(state.numpy(), old)
    tbptt.reset_state()
    assert np.abs(tbptt.carried_states[0].numpy()).max() == 0


@pytest.mark.parametrize("k1", [3, 20])
def test_resets_are_the_ends_of_sequences(k1):
    """A row of documents is each document alone, also where one begins within a chunk."""
    x, y = data(batch=2)
    resets = np.zeros((2, STEPS), "bool")
    resets[0, 5] = resets[1, 9] = True
    tbptt = TruncatedBPTT(network(), k1, resets=True)
    plain = network()
    expected = np.stack(
        [
            np.concatenate([plain(x[row : row + 1, :end])[0], plain(x[row : row + 1, end:])[0]])
            for row, end in ((0, 5), (1, 9))
        ]
    )
    np.testing.assert_allclose(tbptt.predict([x, resets], verbose=0), expected, rtol=1e-5, atol=1e-6)
    tbptt.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=False)
    loss = tbptt.evaluate([x, resets], y, verbose=0)
    penalty = 0.01 * np.sum(plain.layers[-1].kernel.numpy() ** 2)
    np.testing.assert_allclose(loss, np.mean((expected - y) ** 2) + penalty, rtol=1e-5)
    if k1 == 20:
        tbptt.fit([x, resets], y, batch_size=2, verbose=0)
        import tensorflow as tf

        with tf.GradientTape() as tape:
            parts = [tf.concat([plain(x[r : r + 1, :e]), plain(x[r : r + 1, e:])], axis=1) for r, e in ((0, 5), (1, 9))]
            total = tf.reduce_mean((tf.concat(parts, 0) - y) ** 2) + 0.01 * tf.reduce_sum(plain.layers[-1].kernel ** 2)
        gradients = tape.gradient(total, [v.value for v in plain.trainable_weights])
        moved = [w - RATE * g for w, g in zip(plain.get_weights(), gradients, strict=True)]
        expect_weights(tbptt.model, moved)


def test_lengths_may_be_unknown_and_graphs_do_not_grow():
    import tensorflow as tf

    tbptt = TruncatedBPTT(network(), 4)
    tbptt.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=False)
    tbptt.build((None, None, 3))
    tbptt.optimizer.build(tbptt.trainable_variables)

    def graph(steps):
        signature = tf.TensorSpec((4, steps, 3)), tf.TensorSpec((4, steps, 2))
        return tf.function(tbptt.train_step).get_concrete_function(signature)

    def nodes(steps):
        built = graph(steps).graph
        functions = built.as_graph_def().library.function
        return len(built.get_operations()) + sum(len(function.node_def) for function in functions)

    assert nodes(8) == nodes(800)
    step, batches = graph(None), [data(steps=steps, seed=steps) for steps in (9, 3, 8)]
    for x, y in batches:
        step((tf.constant(x), tf.constant(y)))
    expect_weights(tbptt.model, by_hand(network(), batches, 4, 4, "chunk"))


def test_training_goes_on_after_saving(tmp_path):
    batches = [data(seed=seed, steps=6) for seed in range(2)]
    whole = trained(network(), batches, 3, stateful=True, optimizer=keras.optimizers.Adam(0.05))
    half = trained(network(), batches[:1], 3, stateful=True, optimizer=keras.optimizers.Adam(0.05))
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    loaded.fit(*batches[1], batch_size=4, shuffle=False, verbose=0)
    expect_weights(loaded.model, whole.model.get_weights())


@pytest.mark.slow
def test_half_precision_trains_with_a_scaled_loss():
    x, y = data()

    def losses(policy):
        keras.config.set_dtype_policy(policy)
        tbptt = TruncatedBPTT(network(), 4)
        tbptt.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=False)
        return tbptt, tbptt.fit(x, y, batch_size=4, epochs=5, verbose=0).history["loss"]

    tbptt, half = losses("mixed_float16")
    assert isinstance(tbptt.optimizer, keras.optimizers.LossScaleOptimizer)
    np.testing.assert_allclose(half, losses("float32")[1], rtol=0.03)


def test_replicas_train_as_one_device_if_updates_wait_for_the_sequence(strategy):
    x, y = data()
    expected = trained(network(), [(x, y)], 3, updates="sequence").model.get_weights()
    with strategy.scope():
        tbptt = TruncatedBPTT(network(), 3, updates="sequence")
        tbptt.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=False)
        tbptt.fit(x, y, batch_size=4, verbose=0)
    expect_weights(tbptt.model, expected)
    with strategy.scope():
        tbptt = TruncatedBPTT(network(), 3)
        tbptt.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(ValueError, match='TruncatedBPTT: expected updates="sequence" on several replicas'):
        tbptt.fit(x, y, batch_size=4, verbose=0)


@pytest.mark.parametrize("masked", [False, True])
def test_predictions_in_chunks_are_those_of_the_model(masked):
    """Also in masked steps, which show the last output: that of the chunk before, or zero at the begin."""
    x, _ = data()
    if masked:
        x[0, 3:9] = x[1, :5] = x[2, 7:] = x[3] = 0
    model = network(masked)
    got = TruncatedBPTT(model, 4).predict(x, verbose=0)
    np.testing.assert_allclose(got, model.predict(x, verbose=0), rtol=0, atol=1e-6)


def test_a_chunk_in_which_no_step_counts_changes_nothing():
    """Adam moves weights without a gradient too: not after the end of the longest sequence."""
    x, y = data(steps=4)
    padding = np.zeros((4, 16, 3), "float32"), np.zeros((4, 16, 2), "float32")
    padded = tuple(np.concatenate(pair, axis=1) for pair in zip((x, y), padding, strict=True))
    options = {"optimizer": keras.optimizers.Adam(0.05)}
    expected = trained(network(masked=True), [(x, y)], 2, **options)
    tbptt = trained(network(masked=True), [padded], 2, optimizer=keras.optimizers.Adam(0.05))
    expect_weights(tbptt.model, expected.model.get_weights())
    assert int(tbptt.optimizer.iterations) == 2


def test_weights_of_sequences_are_those_of_all_their_steps():
    x, y = data()
    weights, ends = np.arange(1.0, 5.0), []
    for given in (np.repeat(weights[:, None], STEPS, axis=1), weights, weights[:, None]):
        tbptt = TruncatedBPTT(network(), 4)
        tbptt.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=False)
        tbptt.fit(x, y, sample_weight=given, batch_size=4, verbose=0)
        ends.append(tbptt.model.get_weights())
    for end in ends[:2]:
        expect_weights(tbptt.model, end, atol=0)


def test_batches_of_other_lengths_follow_each_other():
    """Keras then forgets the length: chunks look back as far as there is something."""
    batches = [data(steps=steps, seed=steps) for steps in (1, 3, 5, STEPS)]
    expect_weights(trained(network(), batches, 2, 6).model, by_hand(network(), batches, 2, 6, "chunk"))


def test_graphs_do_not_grow_with_k2():
    import tensorflow as tf

    def nodes(k2):
        tbptt = TruncatedBPTT(network(), 1, k2)
        tbptt.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=False)
        tbptt.build((None, None, 3))
        tbptt.optimizer.build(tbptt.trainable_variables)
        signature = tf.TensorSpec((4, 60, 3)), tf.TensorSpec((4, 60, 2))
        graph = tf.function(tbptt.train_step).get_concrete_function(signature).graph
        return len(graph.get_operations()) + sum(len(f.node_def) for f in graph.as_graph_def().library.function)

    # A queue of states: some tensors for each, and no copy of the model.
    assert nodes(30) - nodes(20) < nodes(20) / 10


def test_masked_steps_show_zeros_where_the_layer_says_so():
    x, _ = data()
    x[0, 5:7] = x[2, 9:] = 0  # Within chunks: at their begin a step shows zeros anyway.
    layer = keras.layers.LSTM(2, return_sequences=True, zero_output_for_mask=True)
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Masking(), layer])
    never = np.zeros((4, STEPS), "bool")
    got = TruncatedBPTT(model, 4, resets=True).predict([x, never], verbose=0)
    np.testing.assert_allclose(got, model.predict(x, verbose=0), rtol=0, atol=1e-6)
