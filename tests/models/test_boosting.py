"""What holds for all kinds of boosting: training as Keras does, saving, going on, replicas, data of any form."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_kicks.callbacks import EarlyStopping, GeneralizationGap, Patience, TimeStopping
from keras_kicks.models import Boosting, DecisionStump
from keras_kicks.optimizers import StochasticWeightAveraging

ALGORITHMS = ("samme", "samme.r", "r2", "gradient")


def data(algorithm="samme", samples=90, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 3)).astype("float32")
    value = x[:, 0] * x[:, 1] + x[:, 2] + 0.1 * rng.normal(size=samples)
    return x, (value > 0.3).astype("int64") + (value > 1) if algorithm.startswith("samme") else value


def network(algorithm="samme", dropout=0.2):
    """A learner with all that has a state: dropout, batch normalization, first weights."""
    outputs = 3 if algorithm.startswith("samme") else 1
    hidden = [keras.layers.Dense(6, "tanh"), keras.layers.BatchNormalization(), keras.layers.Dropout(dropout)]
    last = keras.layers.Dense(outputs, activation="softmax" if outputs == 3 else None)
    return keras.Sequential([keras.Input((3,)), *hidden, last])


def ensemble(algorithm="samme", n=4, dropout=0.2, **compiled):
    boosting = Boosting(lambda: network(algorithm, dropout), n, algorithm, seed=7)
    loss = "sparse_categorical_crossentropy" if algorithm.startswith("samme") else "mse"
    boosting.compile(keras.optimizers.Adam(0.03), loss, **{"jit_compile": False, **compiled})
    return boosting


FITTING = {"epochs": 6, "batch_size": 16, "verbose": 0}


def state(boosting):
    return [*boosting.get_weights(), boosting.predict(data()[0], verbose=0)]


def expect_equal(one, other):
    for a, b in zip(state(one), state(other), strict=True):
        np.testing.assert_array_equal(a, b)


class Undeclared(keras.Model):
    """A learner without `build` and `compute_output_shape`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)


def test_a_learner_that_builds_itself_in_its_call():
    x, y = data("gradient")
    boosting = Boosting(Undeclared, 3, "gradient", seed=7)
    boosting.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
    errors = boosting.fit(x, y, epochs=10, verbose=0).history["error"]
    assert errors[-1] < errors[0]
    assert boosting.compute_output_shape((None, 3)) == (None, 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_is_saved_and_goes_on_as_if_without_a_break(algorithm, tmp_path):
    x, y = data(algorithm)
    whole = ensemble(algorithm)
    history = whole.fit(x, y, **FITTING).history
    assert len(history["error"]) == 4
    parts = ensemble(algorithm)
    keras.utils.set_random_seed(99)  # nothing follows from it
    first = parts.fit(x, y, rounds=2, **FITTING).history
    parts.save(tmp_path / "boosting.keras")
    loaded = keras.saving.load_model(tmp_path / "boosting.keras")
    expect_equal(parts, loaded)
    for boosting in (parts, loaded):
        rest = boosting.fit(x, y, **FITTING).history
        assert {name: first[name] + rest[name] for name in first} == history
        expect_equal(boosting, whole)


@pytest.mark.slow
def test_more_members():
    """With n set higher it goes on; the members that are there stay."""
    x, y = data()
    whole, grown = ensemble(n=5), ensemble(n=2)
    whole.fit(x, y, **FITTING)
    grown.fit(x, y, **FITTING)
    before = grown.predict(x, verbose=0)
    grown.n = 5
    np.testing.assert_allclose(grown.predict(x, verbose=0), before, rtol=1e-6)
    grown.fit(x, y, **FITTING)
    assert [w.path for w in grown.weights] == [w.path for w in whole.weights]
    expect_equal(grown, whole)
    grown.n = 6
    grown.n = 5
    expect_equal(grown, whole)
    with pytest.raises(ValueError, match="n to be no less than the members there are; got n=4, members=5"):
        grown.n = 4


@pytest.mark.slow
def test_a_fresh_process_loads_it(tmp_path):
    x, y = data()
    boosting = ensemble(n=2)
    boosting.fit(x, y, **FITTING)
    boosting.save(tmp_path / "boosting.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y, p=boosting.predict(x, verbose=0))
    code = """
import sys, keras, numpy as np, keras_kicks
data = np.load(sys.argv[1] + "/data.npz")
model = keras.saving.load_model(sys.argv[1] + "/boosting.keras")
np.testing.assert_allclose(model.predict(data["x"], verbose=0), data["p"], rtol=1e-6)
model.n = 3
model.fit(data["x"], data["y"], verbose=0)
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_model_is_what_the_members_say(algorithm):
    """The graph, which runs all members at once, is the last of what they give one after the other."""
    x, y = data(algorithm)
    boosting = ensemble(algorithm)
    boosting.fit(x, y, **FITTING)
    stages = list(boosting.staged_predict(x))
    assert len(stages) == 4
    np.testing.assert_allclose(boosting.predict(x, batch_size=25, verbose=0), stages[-1], rtol=1e-5, atol=1e-6)
    outer_input = keras.Input((3,))
    outer = keras.Model(outer_input, boosting(outer_input))
    np.testing.assert_allclose(outer.predict(x, verbose=0), stages[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_is_exported(algorithm, tmp_path):
    import tensorflow as tf

    x, y = data(algorithm)
    boosting = ensemble(algorithm, n=2)
    boosting.fit(x, y, **FITTING)
    boosting.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(x).numpy(), boosting.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


SETTINGS = {"graph": {"jit_compile": False}, "jit": {"jit_compile": True}, "eager": {"run_eagerly": True}}


@pytest.mark.slow
@pytest.mark.parametrize("partial", [False, True])
def test_an_epoch_in_a_graph_is_the_epoch_of_fit(partial):
    """The same weights as those of `keras.Model.fit`, with a last batch that is smaller, or not."""
    x, y = data()
    trained = []
    for setting in SETTINGS.values():
        boosting = ensemble(n=2, dropout=0.0, **setting)
        boosting.fit(x, y, epochs=2, batch_size=20 if partial else 30, shuffle=False, verbose=0)
        trained.append(boosting)
    # What `run_eagerly` takes is `fit` itself.
    for boosting in trained[:2]:
        for a, b in zip(boosting.get_weights(), trained[2].get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


AVERAGING = {
    "use_ema": lambda: keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9),
    "StochasticWeightAveraging": lambda: StochasticWeightAveraging(keras.optimizers.SGD(0.05), start=2),
}


@pytest.mark.parametrize("optimizer", AVERAGING.values(), ids=AVERAGING)
def test_a_round_ends_with_averaged_weights(optimizer):
    """As `fit` ends, which is what `run_eagerly` takes."""
    x, y = data("gradient")
    trained = []
    for setting in ({"jit_compile": False}, {"run_eagerly": True}):
        boosting = Boosting(lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), 2, "gradient", seed=3)
        boosting.compile(optimizer(), "mse", **setting)
        boosting.fit(x, y, epochs=2, shuffle=False, verbose=0)
        trained.append(boosting.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.tensorflow
def test_the_train_step_is_traced_once():
    """Not once a round, nor once a `fit`: with the last batch that is smaller, twice."""
    traced = []

    class Counted(keras.Sequential):
        def train_step(self, data):
            traced.append(1)
            return super().train_step(data)

    boosting = Boosting(lambda: Counted([keras.layers.Dense(3)]), 9, seed=0)
    boosting.compile(
        keras.optimizers.Adam(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    x, y = data()
    boosting.fit(x, y, batch_size=32, epochs=2, rounds=3, verbose=0)
    boosting.fit(x, y, batch_size=32, epochs=3, rounds=3, verbose=0)
    assert len(traced) == 2


def test_each_round_begins_anew():
    """New first weights and a new optimizer: after a step of zero length members differ, and by their seeds alone."""
    x, y = data("gradient")
    seen = []

    class Watched(keras.Sequential):
        def fit(self, *args, **kwargs):
            seen.append((int(self.optimizer.iterations), self.get_weights()))
            return super().fit(*args, **kwargs)

    def run():
        boosting = Boosting(lambda: Watched([keras.layers.Dense(1)]), 3, "gradient", seed=1)
        boosting.compile(keras.optimizers.Adam(0.1), "mse")
        boosting.fit(x, y, verbose=0)

    run()
    run()
    assert [iterations for iterations, _ in seen] == [0] * 6
    kernels = [weights[0] for _, weights in seen]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
    assert np.abs(kernels[1] - kernels[2]).max() > 1e-3
    for one, other in zip(kernels[:3], kernels[3:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_callbacks_see_rounds(tmp_path):
    x, y = data()
    held = data(seed=1)
    boosting = Boosting(lambda: DecisionStump(3), 30, seed=0)
    early = keras.callbacks.EarlyStopping("val_error", mode="min", patience=3, restore_best_weights=True)
    path = tmp_path / "{epoch:02d}.keras"
    rounds = []
    callbacks = [
        early,
        keras.callbacks.ModelCheckpoint(path),
        keras.callbacks.TensorBoard(tmp_path / "logs"),
        keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: rounds.append(epoch)),
    ]
    history = boosting.fit(x, y, validation_data=held, callbacks=callbacks, verbose=0).history
    errors = history["val_error"]
    assert rounds == list(range(len(errors)))
    assert boosting.stop_reason == "a callback has stopped it"
    best = int(np.argmin(errors))
    assert len(errors) == best + 4 < 30
    assert len(boosting.estimator_weights) == best + 1
    saved = keras.saving.load_model(tmp_path / f"{best + 1:02d}.keras")
    np.testing.assert_array_equal(saved.predict(x, verbose=0), boosting.predict(x, verbose=0))
    assert list((tmp_path / "logs").rglob("*tfevents*"))


@pytest.mark.parametrize("compiled", [False, True])
def test_early_stopping_by_rules(compiled):
    """As Keras's `EarlyStopping`: a round is an epoch of one batch; there is no optimizer to restore, or none built."""
    x, y = data()
    held = data(seed=1)

    def run(stopping):
        boosting = Boosting(lambda: DecisionStump(3), 30, seed=0)
        if compiled:
            boosting.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        boosting.fit(x, y, validation_data=held, callbacks=[stopping], verbose=0)
        return boosting

    for stopping in (EarlyStopping(Patience(30, "error"), check_freq=2), EarlyStopping(Patience(3, "val_error"))):
        one = run(stopping)
        assert len(one.estimator_weights) == stopping.best.step
    other = run(keras.callbacks.EarlyStopping("val_error", mode="min", patience=3, restore_best_weights=True))
    members = len(other.estimator_weights)
    assert (stopping.best.epoch, stopping.best.step) == (members - 1, members)
    assert len(one.estimator_weights) == members < 27
    expect_equal(one, other)


def test_time_stopping():
    x, y = data()
    for check in ("batch", "epoch"):
        boosting, stopping = Boosting(lambda: DecisionStump(3), 9, seed=0), TimeStopping(1e-9, check=check)
        boosting.fit(x, y, callbacks=[stopping], verbose=0)
        assert len(boosting.estimator_weights) == 1
        assert stopping.stopped_epoch == 0


def test_generalization_gap():
    (x, y), held = data(), data(seed=1)
    boosting = ensemble(n=2)
    gap = GeneralizationGap((x, y), validation_data=held)
    boosting.fit(x, y, callbacks=[gap], **FITTING)
    losses = [boosting.evaluate(*part, verbose=0) for part in ((x, y), held)]
    assert [gap.history[name][-1] for name in ("train_loss", "val_loss")] == pytest.approx(losses)
    message = (
        r"GeneralizationGap: expected val_loss among what fit has validated; got logs=\[.*'val_error'.*\]. Pass valid"
    )
    with pytest.raises(ValueError, match=message):
        ensemble(n=2).fit(x, y, validation_data=held, callbacks=[GeneralizationGap((x, y))], **FITTING)


def test_it_says_how_it_goes(capsys):
    x = np.arange(6.0)[:, None]
    Boosting(lambda: DecisionStump(2), 3, seed=0).fit(x, x[:, 0] > 2, verbose=2)
    said = capsys.readouterr().out
    assert "Epoch 1/3" in said
    assert "estimator_weight: 1.0" in said
    assert "Boosting: ended, since the learner is perfect." in said


def test_evaluate_takes_metrics_of_keras():
    x, y = data()
    for labels in (y, np.eye(3)[y]):
        boosting = ensemble()
        if labels.ndim == 2:
            boosting.compile(keras.optimizers.Adam(0.03), "categorical_crossentropy", metrics=["accuracy"])
        else:
            boosting.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = boosting.fit(x, labels, **FITTING).history
        p = boosting.predict(x, verbose=0)
        loss, accuracy = boosting.evaluate(x, labels, verbose=0)
        assert accuracy == pytest.approx(1 - history["error"][-1])
        assert loss == pytest.approx(-np.log(p[np.arange(len(x)), y]).mean(), rel=1e-5)


@pytest.mark.tensorflow
def test_data_of_any_form_are_the_same_data():
    import tensorflow as tf

    x, y = data()
    weights = np.random.default_rng(3).exponential(size=len(x))
    dataset = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(16)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, place):
            part = slice(30 * place, 30 * place + 30)
            return x[part], y[part], weights[part]

    def generated():
        while True:
            yield from dataset.as_numpy_iterator()

    forms = {
        "arrays": {"x": x, "y": y, "sample_weight": weights},
        "tensors": {"x": tf.constant(x), "y": tf.constant(y), "sample_weight": tf.constant(weights)},
        "tf.data": {"x": dataset},
        "endless": {"x": dataset.repeat(), "steps_per_epoch": 6},
        "generator": {"x": generated(), "steps_per_epoch": 6},
        "PyDataset": {"x": Batches()},
    }
    fitted = {}
    for name, form in forms.items():
        fitted[name] = Boosting(lambda: DecisionStump(3), 3, seed=0)
        fitted[name].fit(**form, validation_data=dataset, verbose=0)
        for a, b in zip(fitted["arrays"].get_weights(), fitted[name].get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    for endless in (dataset.repeat(), generated()):
        with pytest.raises(ValueError, match=r"data of known, finite length; .* Pass steps_per_epoch"):
            Boosting(lambda: DecisionStump(3), 3).fit(endless, verbose=0)


def test_several_inputs_and_a_split_for_validation():
    x, y = data("gradient")

    def learner():
        a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
        hidden = keras.layers.Dense(4, "tanh")(keras.layers.Concatenate()([a, b]))
        return keras.Model({"a": a, "b": b}, keras.layers.Dense(1)(hidden))

    boosting = Boosting(learner, 3, "gradient", seed=0)
    boosting.compile("adam", "mse")
    inputs = {"a": x[:, :2], "b": x[:, 2:]}
    history = boosting.fit(inputs, y, validation_split=0.2, verbose=0).history
    *_, last = boosting.staged_predict(inputs)
    assert history["error"][-1] == pytest.approx(np.mean((last[:72, 0] - y[:72]) ** 2), rel=1e-4)
    assert history["val_error"][-1] == pytest.approx(np.mean((last[72:, 0] - y[72:]) ** 2), rel=1e-4)
    np.testing.assert_allclose(boosting.predict(inputs, verbose=0), last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [*((algorithm, "mixed_bfloat16") for algorithm in ALGORITHMS), ("gradient", "mixed_float16")],
)
def test_mixed_precision(algorithm, policy):
    x, y = data(algorithm)
    keras.config.set_dtype_policy(policy)
    boosting = ensemble(algorithm, n=3)
    history = boosting.fit(x, y, **FITTING).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert {v.dtype for v in boosting.trainable_variables} == {"float32"}
    *_, last = boosting.staged_predict(x)
    got = boosting.predict(x, verbose=0)
    assert keras.backend.standardize_dtype(got.dtype) == policy.removeprefix("mixed_")
    # Within some roundings; the choice of a class or of the middle member, within none.
    np.testing.assert_allclose(got.astype("float32"), last, rtol=0.02, atol=0.02)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("algorithm", ["samme", "gradient"])
def test_learners_train_on_replicas(strategy, algorithm):
    """As on one device, without dropout and batch normalization, of which replicas have their own."""
    x, y = data(algorithm)

    def learner():
        outputs = 3 if algorithm == "samme" else 1
        return keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(outputs)])

    def run():
        boosting = Boosting(learner, 3, algorithm, seed=3)
        logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        boosting.compile(keras.optimizers.SGD(0.1), logits if algorithm == "samme" else "mse", jit_compile=False)
        weights = np.random.default_rng(0).exponential(size=len(x))
        boosting.fit(x, y, sample_weight=weights, epochs=2, batch_size=30, shuffle=False, verbose=0)
        return boosting

    alone = run()
    with strategy.scope():
        shared = run()
    for a, b in zip(alone.get_weights(), shared.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shared.predict(x, verbose=0), alone.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


def test_a_learner_compiled_in_build_fn_keeps_its_own():
    """Also of a loaded ensemble; one that is not is compiled like the ensemble, again after another compile."""
    x, y = data("gradient")

    def learner():
        model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(0.125), "mse")
        return model

    boosting = Boosting(learner, 2, "gradient", seed=0)
    boosting.compile(keras.optimizers.SGD(0.5), "mae")
    boosting.fit(x, y, batch_size=90, verbose=0)
    again = Boosting.from_config(boosting.get_config())
    again.fit(x, y, batch_size=90, verbose=0)
    residual = (y - y.mean())[:, None]
    first = 0.125 * 2 * x.T @ residual / len(x)
    for fitted in (boosting, again):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(fitted.members.stack_0)[0], first, rtol=1e-4)
    plain = Boosting(lambda: keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")]), 2, "gradient")
    for rate, place in ((0.5, 0), (0.25, 1)):
        plain.compile(keras.optimizers.SGD(rate), "mse")
        plain.fit(x, y, batch_size=90, rounds=1, verbose=0)
        kernel = keras.ops.convert_to_numpy(plain.members.stack_0)[place]
        expected = rate * 2 * x.T @ residual / len(x)
        np.testing.assert_allclose(kernel, expected, rtol=1e-3)
        residual = residual - plain.estimator_weights[place] * (
            x @ kernel + keras.ops.convert_to_numpy(plain.members.stack_1)[place]
        )


def normalized(x):
    layer = keras.layers.Normalization()
    layer.adapt(x)
    return keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1)])


@pytest.mark.parametrize("given", ["function", "model"])
def test_learners_with_adapted_normalization(given, tmp_path):
    """As plain learners on data that were normalized before, also of a model that was saved, and in its next rounds."""
    x, y = data("gradient")
    x = 5 * x + 3

    def make(learner):
        boosting = Boosting(learner, 4, "gradient", seed=7)
        boosting.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
        return boosting

    plain = make(lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
    before = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")
    errors = plain.fit(before, y, **FITTING).history["error"]
    expected = plain.predict(before, verbose=0)
    parts = make((lambda: normalized(x)) if given == "function" else normalized(x))
    new = Boosting.from_config(json.loads(json.dumps(parts.get_config())))
    new.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
    first = parts.fit(x, y, rounds=2, **FITTING).history["error"]
    parts.save(tmp_path / "boosting.keras")
    loaded = keras.saving.load_model(tmp_path / "boosting.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), parts.predict(x, verbose=0))
    for boosting in (parts, loaded):
        rest = boosting.fit(x, y, **FITTING).history["error"]
        np.testing.assert_allclose(first + rest, errors, rtol=1e-4)
        np.testing.assert_allclose(boosting.predict(x, verbose=0), expected, rtol=1e-3, atol=1e-4)
        *_, last = boosting.staged_predict(x)
        np.testing.assert_allclose(last, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(new.fit(x, y, **FITTING).history["error"], errors, rtol=1e-4)


@keras.saving.register_keras_serializable(package="tests")
class Late(keras.Model):
    """A learner that has its layers only when it is built."""

    def build(self, input_shape):
        self.parts = [keras.layers.Normalization(), keras.layers.Dense(1)]
        for part in self.parts:
            part.build(input_shape)
        self.built = True

    def call(self, x):
        return self.parts[1](self.parts[0](x))


def test_a_learner_that_makes_its_normalization_when_it_is_built():
    x, y = data("gradient")
    boosting = Boosting.from_config(Boosting(Late, 2, "gradient", seed=7).get_config())
    boosting.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
    errors = boosting.fit(x, y, **FITTING).history["error"]
    assert errors[1] < errors[0]


def test_normalization_that_is_adapted_to_other_data_in_each_round():
    """What was compiled for a round is no longer that of the next."""
    x, y = data("gradient")

    def run(**compiled):
        scales = iter([1.0, 1.0, 0.1, 10.0])
        boosting = Boosting(lambda: normalized(next(scales) * x), 3, "gradient", seed=7)
        boosting.compile(keras.optimizers.SGD(0.1), "mse", **compiled)
        errors = boosting.fit(x, y, epochs=2, shuffle=False, verbose=0).history["error"]
        stages = list(boosting.staged_predict(x))
        np.testing.assert_allclose([np.mean((p[:, 0] - y) ** 2) for p in stages], errors, rtol=1e-4)
        np.testing.assert_allclose(boosting.predict(x, verbose=0), stages[-1], rtol=1e-3, atol=1e-4)
        means = keras.ops.convert_to_numpy(boosting.members.stack_0)
        np.testing.assert_allclose(means, np.outer([1.0, 0.1, 10.0], x.mean(axis=0)), rtol=1e-3)
        return errors

    np.testing.assert_allclose(run(jit_compile=False), run(run_eagerly=True), rtol=1e-4)


@pytest.mark.parametrize("nested", [False, True])
def test_a_functional_model_as_learner(nested, tmp_path):
    """Keras takes apart the config that it makes such a model from: each round needs one of its own."""
    x, y = data("gradient")
    inputs = keras.Input((3,))
    learner = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    learner = keras.Sequential([keras.Input((3,)), learner]) if nested else learner
    whole, parts = (Boosting(learner, 4, "gradient", seed=7) for _ in range(2))
    for boosting in (whole, parts):
        boosting.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
    whole.fit(x, y, **FITTING)
    parts.fit(x, y, rounds=1, **FITTING)
    parts.save(tmp_path / "boosting.keras")
    loaded = keras.saving.load_model(tmp_path / "boosting.keras")
    loaded.fit(x, y, **FITTING)
    expect_equal(loaded, whole)
