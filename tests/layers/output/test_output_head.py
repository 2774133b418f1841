"""OutputHead: its losses are the likelihoods of scipy's distributions, and what does not fit is refused."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import OutputHead
from keras_kicks.losses import GaussianNLL, LabelSmoothingCrossentropy, Pinball


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def ids(classes, *shape):
    return np.random.default_rng(1).integers(0, classes, shape)


def model_of(head, features=6):
    return keras.Sequential([keras.Input((features,)), keras.layers.Dense(5, "tanh"), head])


def sigmoid(z):
    return 1 / (1 + np.exp(-z.astype("float64")))


def gaussian(y, z):
    from scipy import stats

    size = z.shape[-1] // 2
    deviation = np.sqrt(np.logaddexp(0, z[..., size:].astype("float64")) + 1e-6)
    return stats.norm.logpdf(y, z[..., :size], deviation).sum(axis=-1)


def known(y, z):
    from scipy import stats

    return stats.norm.logpdf(y, z, np.sqrt(0.3)).sum(axis=-1)


def bernoulli(y, z):
    from scipy import stats

    return stats.bernoulli.logpmf(y, sigmoid(z)).sum(axis=-1)


def categorical(y, z):
    from scipy import special, stats

    one_hot = y if y.shape == z.shape else np.eye(z.shape[-1])[y]
    return stats.multinomial.logpmf(one_hot, 1, special.softmax(z.astype("float64"), axis=-1))


HEADS = {
    "learned": (lambda: OutputHead("regression", 2), lambda: drawn(7, 2), gaussian),
    "known": (lambda: OutputHead("regression", 2, variance=0.3), lambda: drawn(7, 2), known),
    "binary": (lambda: OutputHead("binary"), lambda: ids(2, 7, 1), bernoulli),
    "multiclass": (lambda: OutputHead("multiclass", 4), lambda: ids(4, 7), categorical),
    "one-hot": (lambda: OutputHead("multiclass", 4, sparse=False), lambda: np.eye(4)[ids(4, 7)], categorical),
    "multilabel": (lambda: OutputHead("multilabel", 3), lambda: ids(2, 7, 3), bernoulli),
}
over_heads = pytest.mark.parametrize("name", HEADS)


@over_heads
def test_loss_is_the_negative_log_likelihood_up_to_what_nats_adds(name):
    pytest.importorskip("scipy", reason="scipy is the oracle")
    make, labels, density = HEADS[name]
    head, y = make(), labels()
    z = 2 * drawn(7, head.units, seed=2)
    expected = density(y, z)
    np.testing.assert_allclose(ops.convert_to_numpy(head.log_likelihood(y, z)), expected, rtol=1e-4, atol=1e-5)
    loss = head.compile_arguments()["loss"](y, z)
    assert head.nats(loss) == pytest.approx(-expected.mean(), rel=1e-4)


@over_heads
def test_log_likelihood_of_sequences_has_their_shape(name):
    make, labels, _ = HEADS[name]
    head, y = make(), labels()
    z = drawn(7, head.units, seed=2)
    flat = ops.convert_to_numpy(head.log_likelihood(y, z))
    twice = ops.convert_to_numpy(head.log_likelihood(np.stack([y, y], axis=1), np.stack([z, z], axis=1)))
    np.testing.assert_allclose(twice, np.stack([flat, flat], axis=1), rtol=1e-5)


def test_one_target_needs_no_axis():
    head, z = OutputHead("regression"), drawn(7, 2)
    with_axis = head.log_likelihood(drawn(7, 1), z)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(head.log_likelihood(drawn(7, 1)[:, 0], z)), ops.convert_to_numpy(with_axis)
    )


@over_heads
def test_it_trains_and_is_saved_with_its_loss_and_metrics(name, tmp_path):
    make, labels, _ = HEADS[name]
    head, y, x = make(), labels(), drawn(7, 6)
    model = model_of(head)
    model.compile(keras.optimizers.Adam(0.05), **head.compile_arguments(model=model))
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    model.fit(x, y, batch_size=7, epochs=30, verbose=0)
    after = model.evaluate(x, y, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(after, rel=1e-5)
    assert loaded.layers[-1].nats(1.0) == head.nats(1.0)


def test_metrics_are_those_of_the_activated_outputs():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle")
    y, z = ids(2, 60, 3), drawn(60, 3)

    def metrics(head, y, z):
        found = head.compile_arguments()["metrics"]
        for metric in found:
            metric.update_state(y, z)
        return {metric.name: float(metric.result()) for metric in found}

    found = metrics(OutputHead("multilabel", 3), y, z)
    assert found["accuracy"] == pytest.approx((y == (sigmoid(z) > 0.5)).mean(), abs=1e-6)
    assert found["auc"] == pytest.approx(sklearn.roc_auc_score(y, z), abs=0.01)  # Keras's has 200 thresholds.
    found = metrics(OutputHead("binary"), y[:, :1], z[:, :1])
    assert found["accuracy"] == pytest.approx((y[:, :1] == (sigmoid(z[:, :1]) > 0.5)).mean(), abs=1e-6)
    assert found["auc"] == pytest.approx(sklearn.roc_auc_score(y[:, 0], z[:, 0]), abs=0.01)
    classes = ids(3, 60)
    expected = (z.argmax(axis=-1) == classes).mean()
    assert metrics(OutputHead("multiclass", 3), classes, z)["accuracy"] == pytest.approx(expected)
    one_hot = metrics(OutputHead("multiclass", 3, sparse=False), np.eye(3)[classes], z)
    assert one_hot["accuracy"] == pytest.approx(expected)
    targets, outputs = drawn(60, 2), drawn(60, 4, seed=3)
    found = metrics(OutputHead("regression", 2), targets, outputs)
    assert found["rmse"] == pytest.approx(np.sqrt(((targets - outputs[:, :2]) ** 2).mean()), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(targets - outputs[:, :2]).mean(), rel=1e-5)


@over_heads
def test_predictive_model_has_the_activated_outputs_and_the_same_weights(name, tmp_path):
    make, *_ = HEADS[name]
    head, x = make(), drawn(7, 6)
    model = model_of(head)
    z = model.predict(x, verbose=0)
    serving = head.predictive_model(model)
    serving.save(tmp_path / "serving.keras")
    for each in (serving, keras.saving.load_model(tmp_path / "serving.keras")):
        got = each.predict(x, verbose=0)
        if head.task == "regression":
            np.testing.assert_allclose(got["mean"], z[:, : head.size], rtol=1e-5, atol=1e-6)
            spread = np.sqrt(0.3) * np.ones((7, 2)) if name == "known" else np.sqrt(np.logaddexp(0, z[:, 2:]) + 1e-6)
            np.testing.assert_allclose(got["standard_deviation"], spread, rtol=1e-5)
        elif head.task == "multiclass":
            exp = np.exp(z - z.max(axis=-1, keepdims=True))
            np.testing.assert_allclose(got, exp / exp.sum(axis=-1, keepdims=True), rtol=1e-4)
        else:
            np.testing.assert_allclose(got, sigmoid(z), rtol=1e-4)
    head.kernel.assign(np.zeros(head.kernel.shape))
    assert np.ptp(keras.tree.flatten(serving.predict(x, verbose=0))[0], axis=0).max() == 0


def test_far_logits_keep_their_likelihood():
    head, z = OutputHead("binary"), np.array([[-60.0], [60.0]], "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(head.log_likelihood(np.array([1, 0]), z)), [-60, -60], rtol=1e-6)
    head, z = OutputHead("multiclass", 2), np.array([[-90.0, 90.0]], "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(head.log_likelihood(np.array([0]), z)), [-180], rtol=1e-6)


def test_logits_are_float32_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_float16")
    head = OutputHead("multiclass", 3)
    model = model_of(head)
    assert model.compute_dtype == "float16"
    assert keras.backend.standardize_dtype(model(drawn(2, 6)).dtype) == "float32"
    assert OutputHead("multiclass", 3, dtype="float16").compute_dtype == "float16"
    assert OutputHead.from_config(head.get_config()).compute_dtype == "float32"


def test_heads_of_several_tasks_in_one_model():
    inputs = keras.Input((6,))
    heads = {"kind": OutputHead("multiclass", 3), "age": OutputHead("regression")}
    model = keras.Model(inputs, {name: head(inputs) for name, head in heads.items()})
    arguments = {name: head.compile_arguments() for name, head in heads.items()}
    model.compile(
        "sgd",
        loss={name: each["loss"] for name, each in arguments.items()},
        metrics={name: each["metrics"] for name, each in arguments.items()},
    )
    logs = model.fit(drawn(8, 6), {"kind": ids(3, 8), "age": drawn(8, 1)}, verbose=0).history
    assert {"kind_accuracy", "age_rmse"} <= set(logs)


@pytest.mark.parametrize("after", [keras.layers.Softmax(), keras.layers.Activation("softmax"), keras.layers.Dense(3)])
def test_a_layer_behind_the_head_is_refused(after):
    head = OutputHead("multiclass", 3)
    model = keras.Sequential([keras.Input((6,)), head, after])
    rule = (
        r"OutputHead: expected a model whose output is that of the head; got model='.*'\. Let the model end in the head"
    )
    with pytest.raises(ValueError, match=rule):
        head.compile_arguments(model=model)
    with pytest.raises(ValueError, match=rule):
        head.predictive_model(model)


def test_a_head_at_the_end_of_a_nested_or_loaded_model_is_found(tmp_path):
    head = OutputHead("binary")
    inner = model_of(head)
    assert head.compile_arguments(model=keras.Sequential([keras.Input((6,)), inner]))
    inner.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].compile_arguments(model=loaded)


BCE, CCE, SCCE = (
    keras.losses.BinaryCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
)
FROM_LOGITS = "expected a loss with from_logits=True, since it returns logits"


@pytest.mark.parametrize(
    ("head", "loss", "rule"),
    [
        (OutputHead("multiclass", 3), SCCE(), FROM_LOGITS),
        (OutputHead("multiclass", 3), "sparse_categorical_crossentropy", FROM_LOGITS),
        (OutputHead("binary"), BCE(), FROM_LOGITS),
        (OutputHead("binary"), "binary_crossentropy", FROM_LOGITS),
        (OutputHead("multiclass", 3), LabelSmoothingCrossentropy(from_logits=False), FROM_LOGITS),
        (OutputHead("binary"), CCE(from_logits=True), "expected a loss of its task (binary)"),
        (OutputHead("multiclass", 3), BCE(from_logits=True), "expected a loss of its task (multiclass, labels as ids)"),
        (OutputHead("multiclass", 3), CCE(from_logits=True), "expected a loss of its task (multiclass, labels as ids)"),
        (OutputHead("multiclass", 3, sparse=False), SCCE(from_logits=True), "(multiclass, one-hot labels)"),
        (OutputHead("multilabel", 3), "mse", "expected a loss of its task (multilabel)"),
        (OutputHead("multilabel", 3), keras.losses.KLDivergence(), "expected a loss of its task (multilabel)"),
        (OutputHead("regression"), "mse", "expected a loss of its task (regression, learned variance)"),
        (OutputHead("multilabel", 3), "dice", "expected a loss of its task (multilabel)"),
        (OutputHead("binary"), keras.losses.Dice(), "expected a loss of its task (binary)"),
        (OutputHead("multiclass", 3), "poisson", "expected a loss of its task (multiclass, labels as ids)"),
        (OutputHead("multiclass", 3), "categorical_hinge", "expected a loss of its task (multiclass, labels as ids)"),
        (OutputHead("regression"), "cosine_similarity", "expected a loss of its task (regression, learned variance)"),
        (OutputHead("regression"), BCE(), "expected a loss of its task (regression, learned variance)"),
        (OutputHead("regression", variance=1.0), GaussianNLL(), "of its task (regression, fixed variance)"),
    ],
)
def test_losses_that_do_not_fit(head, loss, rule):
    with pytest.raises(ValueError, match=re.escape(rule)) as caught:
        head.compile_arguments(loss)
    assert str(caught.value).startswith("OutputHead: ")
    assert "got loss=" in str(caught.value)


@pytest.mark.parametrize("loss", [GaussianNLL("log"), GaussianNLL(min_variance=0.1)])
def test_a_gaussian_of_another_variance_than_the_heads(loss):
    rule = r"OutputHead: expected a GaussianNLL of variance='softplus' and min_variance=1e-06, as the head has them"
    with pytest.raises(ValueError, match=rule):
        OutputHead("regression").compile_arguments(loss)


def test_losses_that_fit_are_taken():
    def own(y, z):
        return ops.mean(z)

    fitting = {
        "binary": (
            BCE(from_logits=True, label_smoothing=0.1),
            own,
            keras.losses.BinaryFocalCrossentropy(from_logits=True),
            "hinge",
        ),
        "multiclass": (SCCE(from_logits=True), LabelSmoothingCrossentropy(), own),
        "regression": (GaussianNLL(beta=0.5), own),
    }
    for task, losses in fitting.items():
        head = OutputHead(task, 3 if task == "multiclass" else 1)
        for loss in map(keras.losses.get, losses):
            assert head.compile_arguments(loss, metrics=[own]) == {"loss": loss, "metrics": [own]}
    pinball = Pinball(0.9)
    assert OutputHead("regression", variance=1.0).compile_arguments(pinball)["loss"] is pinball


OF_LOGITS, METRICS = "expected a metric of logits, since it returns them", keras.metrics


@pytest.mark.parametrize(
    ("head", "metric", "rule"),
    [
        (OutputHead("binary"), METRICS.BinaryAccuracy(), OF_LOGITS),
        (OutputHead("binary"), "AUC", OF_LOGITS),
        (OutputHead("binary"), METRICS.Precision(), OF_LOGITS),
        (OutputHead("binary"), METRICS.RecallAtPrecision(0.5), OF_LOGITS),
        (OutputHead("binary"), "binary_crossentropy", OF_LOGITS),
        (OutputHead("multilabel", 3), METRICS.F1Score(threshold=0.5), OF_LOGITS),
        (OutputHead("multiclass", 3), METRICS.SparseCategoricalCrossentropy(), OF_LOGITS),
        (OutputHead("multiclass", 3), keras.losses.sparse_categorical_crossentropy, OF_LOGITS),
        (OutputHead("multiclass", 3), "mae", "a metric of its task (multiclass, labels as ids)"),
        (OutputHead("multiclass", 3), METRICS.CategoricalAccuracy(), "of its task (multiclass, labels as ids)"),
        (OutputHead("regression"), "accuracy", "expected a metric of its task (regression, learned variance)"),
        (OutputHead("regression", variance=1.0), "accuracy", "of its task (regression, fixed variance)"),
    ],
)
def test_metrics_that_do_not_fit(head, metric, rule):
    with pytest.raises(ValueError, match=re.escape(rule)) as caught:
        head.compile_arguments(metrics=[metric])
    assert str(caught.value).startswith("OutputHead: ")
    assert "got metric=" in str(caught.value)


def test_metrics_of_ones_own_see_what_they_are_of():
    y, z = ids(2, 60, 1), drawn(60, 1)
    head = OutputHead("binary")
    fitting = [METRICS.BinaryAccuracy(threshold=0.0, name="own"), METRICS.AUC(from_logits=True), "hinge"]
    assert head.compile_arguments(metrics=fitting)["metrics"] == fitting
    for name in ("accuracy", "acc"):
        (accuracy,) = head.compile_arguments(metrics=[name])["metrics"]
        accuracy.update_state(y, z)
        assert float(accuracy.result()) == pytest.approx((y == (sigmoid(z) > 0.5)).mean(), abs=1e-6)
    for y in (drawn(60, 1), drawn(60)):
        (error,) = OutputHead("regression").compile_arguments(metrics=["mae"])["metrics"]
        outputs = drawn(60, 2, seed=3)
        error.update_state(y, outputs)
        assert float(error.result()) == pytest.approx(np.abs(y.reshape(60) - outputs[:, 0]).mean(), rel=1e-5)


def test_one_of_several_outputs_may_be_that_of_the_head():
    inputs = keras.Input((6,))
    heads = {"kind": OutputHead("multiclass", 3), "age": OutputHead("regression")}
    model = keras.Model(inputs, {name: head(inputs) for name, head in heads.items()})
    for head in heads.values():
        assert head.compile_arguments(model=model)["loss"]
        with pytest.raises(ValueError, match="OutputHead: expected a model whose output is that of the head"):
            head.predictive_model(model)
    with pytest.raises(ValueError, match="OutputHead: expected a model whose output is that of the head"):
        OutputHead("binary").compile_arguments(model=model)


def test_what_a_subclassed_model_returns_is_not_known():
    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="OutputHead: expected a built Sequential or functional model; got model='own"):
        OutputHead("binary").compile_arguments(model=Own(name="own"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"task": "ranking"},
            ValueError,
            "expected task to be one of 'regression', 'binary', 'multiclass', 'multilabel'",
        ),
        ({"task": "binary", "size": 2}, ValueError, "expected size=1 for a binary task; got task='binary', size=2."),
        (
            {"task": "multiclass"},
            ValueError,
            "expected size >= 2, the number of classes; got task='multiclass', size=1.",
        ),
        ({"task": "multilabel", "size": 0}, ValueError, "expected size >= 1; got task='multilabel', size=0."),
        ({"task": "regression", "size": 1.0}, TypeError, "expected an integer for size; got size=1.0."),
        ({"task": "regression", "variance": 0}, ValueError, "expected variance > 0; got variance=0."),
        (
            {"task": "regression", "variance": "known"},
            TypeError,
            "expected a number for variance; got variance='known'.",
        ),
        ({"task": "regression", "min_variance": -1}, ValueError, "expected min_variance > 0; got min_variance=-1."),
        ({"task": "regression", "variance_form": "exp"}, ValueError, "expected variance_form to be one of"),
        (
            {"task": "multiclass", "size": 3, "activation": "softmax"},
            ValueError,
            "expected no activation, since its losses",
        ),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"OutputHead: {message}")):
        OutputHead(**arguments)


@pytest.mark.tensorflow
def test_a_wrong_class_id_has_no_likelihood():
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"OutputHead: expected class ids in \[0, 3\)"):
        OutputHead("multiclass", 3).log_likelihood(np.array([3]), drawn(1, 3))
