"""Every optimizer in TensorFlow: compiled, with sparse gradients, on two replicas, with loss scaling."""

import keras
import numpy as np
import pytest
from optimizers.table import OPTIMIZERS, SHAPES, apply, arrays, close, numbers, shapes_of, variables

import keras_kicks.optimizers as o

pytestmark = pytest.mark.tensorflow
ROWS = "The optimizer inside is Keras's Adam, which squares rows that come twice one by one."
over_all = pytest.mark.parametrize("name", OPTIMIZERS)


@over_all
def test_graphs_do_what_eager_steps_do_and_are_traced_once(name):
    import tensorflow as tf

    steps = arrays(*shapes_of(name), seed=1, steps=4)
    results = []
    for jit in (None, False, True):
        if jit and ("raise" in name or "nuclear" in name or "Noise" in name):
            # XLA has no errors from inside and other normal numbers, and on the CPU TensorFlow's decomposition does
            # not compile.
            continue
        targets, optimizer = variables(*shapes_of(name)), OPTIMIZERS[name]()
        optimizer.build(targets)

        def step(*gradients, optimizer=optimizer):
            optimizer.apply(list(gradients))

        run = step if jit is None else tf.function(step, jit_compile=jit, autograph=False)
        for gradients in steps:
            run(*(tf.constant(g) for g in gradients))
        if jit is not None:
            assert run.experimental_get_tracing_count() == 1
        results.append(numbers(targets))
    for other in results[1:]:
        close(results[0], other, 2e-6)


@over_all
def test_sparse_gradients_are_dense_ones(name):
    """Rows that come twice are summed."""
    import tensorflow as tf

    if name in ("Lookahead", "StochasticWeightAveraging"):
        pytest.skip(ROWS)

    values, indices = arrays((3, 3), seed=4)[0], [2, 0, 2]
    dense = np.zeros((4, 3), "float32")
    np.add.at(dense, indices, values)
    results = []
    for gradient in (tf.IndexedSlices(values, indices, (4, 3)), tf.constant(dense)):
        targets, optimizer = variables((4, 3)), OPTIMIZERS[name]()
        for _ in range(3):
            optimizer.apply([gradient], targets)
        results.append(numbers(targets))
    close(*results)


def replica_model(optimizer, strategy):
    import contextlib

    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input((3,), dtype="int32"),
                keras.layers.Embedding(6, 4),
                keras.layers.Flatten(),
                keras.layers.Dense(3, activation="tanh"),
                keras.layers.Dense(1),
            ]
        )
        model.compile(optimizer(), "mse", jit_compile=False)
    return model


def uneven():
    """Batches of which the halves, one for each replica, have very different gradients."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, size=(24, 3))
    y = rng.normal(size=(24, 1)).astype("float32") * np.where(np.arange(24) % 8 < 4, 10.0, 0.1)[:, None]
    return x, y.astype("float32")


@over_all
def test_two_replicas_are_one_device(name, strategy):
    if "nuclear" in name:
        pytest.skip("TensorFlow decomposes equal matrices differently on its two logical devices.")
    results = []
    for where in (None, strategy):
        model = replica_model(OPTIMIZERS[name], where)
        model.fit(*uneven(), batch_size=8, epochs=1, shuffle=False, verbose=0)
        results.append((model.get_weights(), [v.numpy() for v in model.optimizer.variables]))
    close(results[0][0], results[1][0], 2e-6)
    close(results[0][1], results[1][1], 1e-5)


@pytest.mark.parametrize("by", ["global_norm", "norm", "value", "adaptive", "percentile"])
def test_clipping_on_two_replicas_is_that_of_one_device(by, strategy):
    """By a step of SGD with rate 1, of which every rounding shows; with and without a scaled loss."""
    limits = {"global_norm": 1.0, "norm": 0.5, "value": 0.1, "adaptive": 0.1, "percentile": 20}
    for scaled in (False, True):
        weights = []
        for where in (None, strategy):

            def make(scaled=scaled):
                clipped = o.GradientClipping(keras.optimizers.SGD(1.0), by, limits[by])
                return keras.optimizers.LossScaleOptimizer(clipped, initial_scale=8.0) if scaled else clipped

            model = replica_model(make, where)
            model.fit(*uneven(), batch_size=8, epochs=1, shuffle=False, verbose=0)
            weights.append(model.get_weights())
        close(*weights, 1e-6)


def test_keras_clips_before_it_sums(strategy):
    """The defect that GradientClipping is there for. When this fails, Keras has mended it."""
    moved = []
    for clipped in (keras.optimizers.SGD(1.0, global_clipnorm=1.0), o.GradientClipping("sgd", limit=1.0)):
        clipped.learning_rate = 1.0
        with strategy.scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            model.compile(clipped, "mse", jit_compile=False)
        before = model.get_weights()
        x, y = uneven()
        model.fit(x[:8].astype("float32"), y[:8], batch_size=8, shuffle=False, verbose=0)
        moved.append(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(before, model.get_weights(), strict=True))))
    assert moved[0] < 0.99 or moved[0] > 1.01
    np.testing.assert_allclose(moved[1], 1.0, rtol=1e-5)


def test_adam_of_keras_squares_rows_one_by_one():
    """Why the table of sparse gradients leaves it out. When this fails, Keras has mended it."""
    import tensorflow as tf

    results = []
    for gradient in (tf.IndexedSlices([[1.0], [1.0]], [0, 0], (1, 1)), tf.constant([[2.0]])):
        optimizer, target = keras.optimizers.Adam(1.0), keras.Variable([[0.0]])
        optimizer.apply([gradient], [target])
        results.append(float(target.numpy()[0, 0]))
    np.testing.assert_allclose(results, [-np.sqrt(2), -1], rtol=1e-3)


@over_all
def test_mixed_float16_in_fit(name):
    """With a LossScaleOptimizer around it, as compile puts it there: weights stay float32 and are trained."""
    keras.config.set_dtype_policy("mixed_float16")
    model = replica_model(OPTIMIZERS[name], None)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    before = model.get_weights()
    model.fit(*uneven(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert any(np.abs(a - b).max() > 0 for a, b in zip(before, model.get_weights(), strict=True))
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_accumulation_on_two_replicas(strategy):
    results = []
    for where in (None, strategy):
        model = replica_model(lambda: o.Adam(0.01, gradient_accumulation_steps=3), where)
        model.fit(*uneven(), batch_size=4, shuffle=False, verbose=0)
        assert int(model.optimizer.iterations) == 2
        results.append(model.get_weights())
    close(*results, 2e-6)


def test_lookahead_is_its_identity_for_embeddings():
    """slow + a (fast - slow), row by row of a table whose gradients are sparse."""
    import tensorflow as tf

    table = variables((5, 2))
    slow = numbers(table)[0]
    fast, optimizer = slow.copy(), o.Lookahead(keras.optimizers.SGD(0.1), 2, 0.3)
    for step in range(1, 7):
        rows = arrays((2, 2), seed=step)[0]
        optimizer.apply([tf.IndexedSlices(rows, [1, 1 + step % 3], (5, 2))], table)
        np.add.at(fast, [1, 1 + step % 3], -0.1 * rows)
        if step % 2 == 0:
            slow = fast = slow + 0.3 * (fast - slow)
            fast = fast.copy()
        np.testing.assert_allclose(numbers(table)[0], fast, rtol=1e-5, atol=1e-6)


def test_apply_needs_no_strategy_to_be_left(strategy):
    """A step outside of fit, in a replica of one's own loop."""
    with strategy.scope():
        targets, optimizer = variables(*SHAPES), o.GradientClipping(o.Adam(0.1), limit=0.5)
        optimizer.build(targets)

    import tensorflow as tf

    gradients = arrays(*SHAPES, seed=1)

    @tf.function
    def step():
        strategy.run(lambda: optimizer.apply([tf.constant(g / 2) for g in gradients], targets))

    step()
    alone = variables(*SHAPES)
    apply(o.GradientClipping(o.Adam(0.1), limit=0.5), gradients, alone)
    close(numbers(targets), numbers(alone), 1e-6)
