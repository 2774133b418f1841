"""cluster_weights and strip_clustering: which layers, how they train, what is saved, what is refused."""

import contextlib
import json
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.compression import cluster_report, cluster_weights, prune_low_magnitude, strip_clustering
from keras_kicks.compression.cluster_wrapper import ClusterWeights
from keras_kicks.layers import DropConnect, MaxoutDense, SymmetricDense, TransposedDense

pytestmark = pytest.mark.tensorflow
L = keras.layers


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sequential(shape, *layers, dtype=None):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def mlp():
    return sequential((12,), L.Dense(16, "tanh"), L.Dense(3))


def attention():
    x = keras.Input((6, 8))
    y = L.MultiHeadAttention(2, 4)(L.Dense(8)(x), x, use_causal_mask=True)
    return keras.Model(x, L.GlobalAveragePooling1D()(y))


def separable():
    parts = [L.Conv2D(5, 3), L.BatchNormalization(), L.DepthwiseConv2D(3), L.SeparableConv2D(4, 3)]
    return sequential((8, 8, 3), *parts, L.Conv2DTranspose(3, 3), L.Flatten(), L.Dense(3))


def recurrent():
    cells = L.RNN([L.LSTMCell(4), L.GRUCell(5)], return_sequences=True)
    parts = [L.SimpleRNN(6, return_sequences=True), L.GRU(5, return_sequences=True), cells, L.Bidirectional(L.LSTM(3))]
    return sequential((5, 4), *parts)


# A model, and how many kernels of it are clustered.
MODELS = {
    "dense": (mlp, 2),
    "conv1d": (lambda: sequential((8, 3), L.Conv1D(5, 3), L.Conv1DTranspose(4, 3), L.SeparableConv1D(4, 3)), 3),
    "conv2d": (separable, 4),
    "conv3d": (lambda: sequential((4, 4, 4, 2), L.Conv3D(5, 2), L.Conv3DTranspose(3, 2)), 2),
    "einsum": (lambda: sequential((4, 6), L.EinsumDense("abc,cd->abd", (4, 5), bias_axes="d")), 1),
    "embedding": (lambda: sequential((6,), L.Embedding(20, 8, mask_zero=True), L.LSTM(5), dtype="int32"), 3),
    "recurrent": (recurrent, 12),
    "attention": (attention, 5),
    "ours": (lambda: sequential((8,), MaxoutDense(4, 3), DropConnect(L.Dense(5), 0.5, seed=1)), 2),
    "distributed": (lambda: sequential((5, 6, 6, 2), L.TimeDistributed(L.Conv2D(4, 3))), 1),
}


def data_of(model, count=32):
    shape = (count, *model.input_shape[1:])
    integers = keras.backend.standardize_dtype(model.inputs[0].dtype) == "int32"
    x = np.random.default_rng(1).integers(0, 20, shape) if integers else drawn(*shape, seed=1)
    return x, drawn(count, *model.output_shape[1:], seed=2)


def fit(model, jit_compile=False, epochs=2, optimizer=None, **arguments):
    x, y = data_of(model)
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", jit_compile=jit_compile, **arguments)
    return model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def centroids_of(model):
    return [v.numpy() for v in model.trainable_variables if v.path.endswith("/centroids")]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_has_few_values_which_are_trained(name):
    make, count = MODELS[name]
    model = make()
    before, x = [w.numpy() for w in model.weights], data_of(model)[0]
    clustered = cluster_weights(model, 3, "linear")
    assert list(cluster_report(clustered).values()) == [3] * count
    first = centroids_of(clustered)
    fit(clustered)
    assert all(np.all(a != b) for a, b in zip(first, centroids_of(clustered), strict=True))
    stripped = strip_clustering(clustered)
    assert [type(layer) for layer in stripped.layers] == [type(layer) for layer in model.layers]
    assert len(stripped.trainable_weights) == len(model.trainable_weights)
    report = cluster_report(stripped)
    assert len(report) == count
    assert max(report.values()) <= 3
    np.testing.assert_allclose(clustered.predict(x, verbose=0), stripped.predict(x, verbose=0), rtol=0, atol=1e-6)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_inference_is_clustered_too_and_biases_are_not():
    model = mlp()
    model.layers[0].bias.assign(drawn(16))
    clustered, x = cluster_weights(model, 4), drawn(5, 12)
    kernel = ops.convert_to_numpy(next(iter(clustered.layers[0].clustered().values())))
    assert len(np.unique(kernel)) == 4
    expected = np.tanh(x @ kernel + drawn(16))
    for training in (False, True):
        y = ops.convert_to_numpy(clustered.layers[0](x, training=training))
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["sum", "avg"])
def test_jit_and_several_steps_at_once_train_alike(aggregation):
    model, found = mlp(), []
    for arguments in ({}, {"jit_compile": True}, {"steps_per_execution": 2}, {"run_eagerly": True}):
        clustered = cluster_weights(model, 5, "linear", cluster_gradient_aggregation=aggregation)
        losses = fit(clustered, optimizer=keras.optimizers.SGD(0.02), epochs=1, **arguments)
        found.append([*losses, *np.concatenate(centroids_of(clustered))])
    for others in found[1:]:
        np.testing.assert_allclose(others, found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_centroids_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    model = mlp()
    clustered = cluster_weights(model, 4)
    assert {v.dtype for v in clustered.trainable_variables} == {"float32"}
    assert clustered.layers[0].compute_dtype == policy.removeprefix("mixed_")
    y = clustered(drawn(5, 12))
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    losses = fit(clustered, epochs=12)
    assert losses[-1] < losses[0]
    assert list(cluster_report(strip_clustering(clustered)).values()) == [4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["sum", "avg"])
def test_a_step_on_two_replicas_is_that_on_one(strategy, aggregation):
    model, found = mlp(), []
    arguments = {"preserve_sparsity": True, "cluster_gradient_aggregation": aggregation}
    for scope in (contextlib.nullcontext(), strategy.scope()):
        with scope:
            clustered = cluster_weights(model, 5, "linear", **arguments)
            before = [v.numpy() for v in clustered.trainable_variables]
            fit(clustered, epochs=1, optimizer=keras.optimizers.SGD(0.05))
            found.append([v.numpy() for v in clustered.trainable_variables])
            kernels = [layer.kernel.numpy() for layer in strip_clustering(clustered).layers]
    for a, b, old in zip(*found, before, strict=True):
        assert np.abs(a - old).max() > 1e-4
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    assert all(len(np.unique(kernel)) <= 5 for kernel in kernels)


def test_zeros_of_a_pruned_model_stay_zero():
    model = mlp()
    for layer in model.layers:
        kernel = layer.kernel.numpy()
        layer.kernel.assign(np.where(np.abs(kernel) < np.median(np.abs(kernel)), 0, kernel))
    zeros = [layer.kernel.numpy() == 0 for layer in model.layers]
    for preserve in (True, False):
        clustered = cluster_weights(model, 5, preserve_sparsity=preserve)
        fit(clustered, epochs=3)
        kept = [layer.kernel.numpy() == 0 for layer in strip_clustering(clustered).layers]
        assert all(np.all(now[old]) for now, old in zip(kept, zeros, strict=True)) == preserve
    assert max(cluster_report(clustered).values()) <= 5


def test_only_channels_of_a_conv2d_have_their_own_values():
    parts = [L.Conv2D(4, 3), L.TimeDistributed(L.Dense(5)), L.Flatten(), L.Dense(3)]
    clustered = cluster_weights(sequential((6, 6, 2), *parts), 4, cluster_per_channel=True)
    fit(clustered)
    kernel = strip_clustering(clustered).layers[0].kernel.numpy()
    assert [len(np.unique(kernel[..., channel])) for channel in range(4)] == [4] * 4
    assert len(np.unique(kernel)) == 16
    assert list(cluster_report(clustered).values())[1:] == [4, 4]


def test_nested_shared_and_several_inputs():
    shared = L.Dense(8, "relu", name="shared")
    inner = keras.Sequential([keras.Input((8,)), L.Dense(6, name="inner")], name="nested")
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    left, right = inner(shared(a)), inner(shared(b))
    outputs = {"sum": L.Add(name="sum")([left, right]), "head": L.Dense(4, name="head")(left * right)}
    model = keras.Model({"a": a, "b": b}, outputs)
    clustered = cluster_weights(model, 3)
    assert [layer.name for layer in clustered.layers] == [layer.name for layer in model.layers]
    assert len(centroids_of(clustered)) == 3
    clustered.compile("adam", {"sum": "mse", "head": "mse"})
    x = {"a": drawn(16, 5), "b": drawn(16, 5, seed=1)}
    clustered.fit(x, {"sum": drawn(16, 6), "head": drawn(16, 4)}, verbose=0)
    stripped = strip_clustering(clustered)
    assert stripped.get_layer("nested").name == "nested"
    assert list(cluster_report(stripped).values()) == [3, 3, 3]
    before, after = clustered.predict(x, verbose=0), stripped.predict(x, verbose=0)
    for name in ("sum", "head"):
        np.testing.assert_allclose(before[name], after[name], rtol=0, atol=1e-6)


def test_layers_are_chosen_by_name_or_themselves():
    model = mlp()
    clustered = cluster_weights(model, 3, layers=[model.layers[0].name])
    assert [isinstance(layer, ClusterWeights) for layer in clustered.layers] == [True, False]
    clustered = cluster_weights(model, 3, layers=model.layers[1])
    assert [isinstance(layer, ClusterWeights) for layer in clustered.layers] == [False, True]
    model = sequential((5, 4), L.Bidirectional(L.LSTM(3), name="both"))
    part = model.layers[0].forward_layer
    assert sorted(cluster_report(cluster_weights(model, 3, layers=part)).values()) == [3, 3, 36, 48]


@keras.saving.register_keras_serializable(package="test_cluster")
class Scaled(L.Layer):
    """A layer of one's own with a weight to cluster and one to leave."""

    def __init__(self, pairs=False, **kwargs):
        super().__init__(**kwargs)
        self.pairs = pairs

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], 6), name="matrix")
        self.scales = self.add_weight(shape=(2, 3), name="scales")

    def get_clusterable_weights(self):
        return [("matrix", self.matrix)] if self.pairs else [self.matrix]

    def get_prunable_weights(self):
        return [self.matrix, self.scales]

    def call(self, x):
        return ops.matmul(x, self.matrix) * ops.reshape(self.scales, (6,))

    def get_config(self):
        return {**super().get_config(), "pairs": self.pairs}


@pytest.mark.parametrize("pairs", [False, True])
def test_a_layer_says_what_to_cluster(pairs):
    model = sequential((5,), Scaled(pairs))
    stripped = strip_clustering(cluster_weights(model, 3))
    assert len(np.unique(stripped.layers[0].matrix.numpy())) == 3
    np.testing.assert_array_equal(stripped.layers[0].scales.numpy(), model.layers[0].scales.numpy())


def test_a_frozen_layer_is_clustered_and_not_trained():
    model = mlp()
    model.layers[0].trainable = False
    clustered = cluster_weights(model, 4)
    assert [w.path.split("/")[0] for w in clustered.trainable_weights] == [model.layers[1].name] * 3
    first = [w.numpy() for w in clustered.layers[0].weights]
    fit(clustered)
    for weight, old in zip(clustered.layers[0].weights, first, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    assert not strip_clustering(clustered).layers[0].trainable


def test_a_layer_that_destroys_masks_still_does():
    """Keras then warns, as it does of the layer itself."""
    model = sequential((6,), L.Embedding(20, 8, mask_zero=True), L.LSTM(4, return_sequences=True), dtype="int32")
    assert cluster_weights(model, 3)(np.zeros((1, 6)))._keras_mask is not None
    clustered = cluster_weights(sequential((6, 4), L.Conv1D(4, 3)), 3)
    with pytest.warns(UserWarning, match="does not support masking"):
        y = clustered.layers[0](L.Masking()(ops.convert_to_tensor(drawn(2, 6, 4))))
    assert getattr(y, "_keras_mask", None) is None


def test_a_layer_keeps_a_policy_of_its_own():
    clustered = cluster_weights(sequential((12,), L.Dense(16, dtype="mixed_bfloat16"), L.Dense(3)), 4)
    assert [layer.compute_dtype for layer in clustered.layers] == ["bfloat16", "float32"]
    stripped = strip_clustering(clustered)
    assert [layer.compute_dtype for layer in stripped.layers] == ["bfloat16", "float32"]


def test_masks_training_and_losses_pass_through():
    parts = [L.Embedding(20, 8, mask_zero=True), L.Dense(6, activity_regularizer="l2", kernel_regularizer="l1")]
    model = sequential((4,), *parts, L.GlobalAveragePooling1D(), dtype="int32")
    clustered = cluster_weights(model, 30)
    x = np.array([[3, 4, 0, 0]])
    stripped = strip_clustering(clustered)
    short = ops.convert_to_numpy(stripped(x[:, :2]))
    np.testing.assert_allclose(ops.convert_to_numpy(clustered(x)), short, rtol=1e-5, atol=1e-6)
    stripped(x)
    # The penalty of the kernel is that of the weights which are trained, which stripping replaces.
    penalty = 0.01 * np.abs(model.layers[1].kernel.numpy()).sum()
    activity = [float(loss) for loss in clustered.losses]
    expected = [float(loss) for loss in stripped.losses]
    assert min(activity) == pytest.approx(min(expected), rel=1e-5)
    assert max(activity) == pytest.approx(penalty, rel=1e-5)
    dropping = cluster_weights(sequential((50,), DropConnect(L.Dense(30), 0.5, seed=1)), 4)
    ones = np.ones((1, 50), "float32")
    assert np.any(ops.convert_to_numpy(dropping(ones, training=True)) != ops.convert_to_numpy(dropping(ones)))


RESUME = """
import sys
import keras_kicks
import keras
import numpy as np

path, data, result = sys.argv[1:]
model = keras.saving.load_model(path)
with np.load(data) as arrays:
    model.fit(arrays["x"], arrays["y"], batch_size=16, epochs=2, shuffle=False, verbose=0)
np.savez(result, *[variable.numpy() for variable in model.variables])
"""


def both_ways():
    return sequential((5, 4), L.Bidirectional(L.LSTM(3)), L.Dense(3))


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [False, True])
def test_training_goes_on_bit_by_bit_in_a_fresh_process(tmp_path, per_channel):
    parts = [L.Conv2D(4, 3, activation="tanh"), L.Flatten(), L.Dense(3)]
    model = sequential((6, 6, 2), *parts) if per_channel else both_ways()
    clustered = cluster_weights(model, 4, "kmeans++", preserve_sparsity=True, cluster_per_channel=per_channel)
    fit(clustered)
    clustered.save(tmp_path / "model.keras")
    x, y = data_of(model)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    paths = [str(tmp_path / name) for name in ("model.keras", "data.npz", "result.npz")]
    done = subprocess.run([sys.executable, "-c", RESUME, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    clustered.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    with np.load(tmp_path / "result.npz") as result:
        for variable, value in zip(clustered.variables, result.values(), strict=True):
            # Keras does not save the seeds of dropout, which there is none of here.
            if "seed_generator" not in variable.path:
                np.testing.assert_array_equal(variable.numpy(), value)


def test_a_stripped_model_is_plain_keras(tmp_path):
    stripped = strip_clustering(cluster_weights(mlp(), 4))
    stripped.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        config = json.loads(file.read("config.json"))
    assert "keras_kicks" not in json.dumps(config)
    x = drawn(5, 12)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), stripped.predict(x, verbose=0))


@pytest.mark.parametrize(("name", "member"), [("linear", "LINEAR"), ("density", "DENSITY_BASED")])
def test_the_enums_of_tfmot_are_taken_too(name, member):
    from keras_kicks.compression._tfmot import tfmot

    enums, model = tfmot("clustering.keras.cluster_config"), mlp()
    initialization, aggregation = enums.CentroidInitialization[member], enums.GradientAggregation.AVG
    clustered = cluster_weights(model, 4, initialization, cluster_gradient_aggregation=aggregation)
    expected = cluster_weights(model, 4, name, cluster_gradient_aggregation="avg")
    assert clustered.layers[0].get_config()["clustering"] == expected.layers[0].get_config()["clustering"]
    for a, b in zip(centroids_of(clustered), centroids_of(expected), strict=True):
        np.testing.assert_array_equal(a, b)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(4)

    def call(self, x):
        return self.dense(x)


def subclassed():
    model = Subclassed()
    model(drawn(2, 5))
    return model


def pruned():
    from keras_kicks.compression import ConstantSparsity

    return prune_low_magnitude(mlp(), ConstantSparsity(0.5, 0))


def with_nan():
    model = mlp()
    model.layers[0].kernel.assign(np.full((12, 16), np.nan))
    return model


@keras.saving.register_keras_serializable(package="test_cluster")
class Silent(L.Layer):
    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], 6), name="matrix")

    def call(self, x):
        return ops.matmul(x, self.matrix)


def tied():
    encoder, inputs = L.Dense(4, name="encoder"), keras.Input((8,))
    return keras.Model(inputs, TransposedDense(encoder, name="decoder")(encoder(inputs)))


REFUSED = {
    "no model": (lambda: "model", {}, TypeError, "a model of Keras 3; got model='builtins.str'."),
    "unbuilt": (lambda: keras.Sequential([L.Dense(4)]), {}, ValueError, "a built model; got model='sequential'."),
    "subclassed": (subclassed, {}, ValueError, "a Sequential or functional model; got model='Subclassed'."),
    "no kernels": (lambda: sequential((4,), L.ReLU()), {}, ValueError, "a model with weights to cluster; got"),
    "pruned": (pruned, {}, ValueError, "weights that are not being pruned; got weight="),
    "nan": (with_nan, {}, ValueError, "finite weights; got weight="),
    "silent": (
        lambda: sequential((4,), Silent()),
        {},
        ValueError,
        "layers that say what to cluster; got layer=",
    ),
    "float": (
        mlp,
        {"number_of_clusters": 4.0},
        TypeError,
        "an integer for number_of_clusters; got number_of_clusters=4.0",
    ),
    "bool": (mlp, {"number_of_clusters": True}, TypeError, "an integer for number_of_clusters; got"),
    "one": (mlp, {"number_of_clusters": 1}, ValueError, "number_of_clusters >= 2; got number_of_clusters=1."),
    "two and zero": (
        mlp,
        {"number_of_clusters": 2, "preserve_sparsity": True},
        ValueError,
        "number_of_clusters >= 3 with preserve_sparsity; got number_of_clusters=2.",
    ),
    "many": (
        mlp,
        {"number_of_clusters": 48},
        ValueError,
        "number_of_clusters < weights; got number_of_clusters=48, weights=48, layer='dense_1'. Take fewer, or name",
    ),
    "many of a channel": (
        lambda: sequential((6, 6, 2), L.Conv2D(4, 3)),
        {"number_of_clusters": 18, "cluster_per_channel": True},
        ValueError,
        "number_of_clusters < weights of a channel; got number_of_clusters=18, weights=18, layer='conv2d'.",
    ),
    "channels": (mlp, {"cluster_per_channel": True}, ValueError, "a Conv2D to cluster with cluster_per_channel; got"),
    "flag": (mlp, {"preserve_sparsity": 1}, TypeError, "a bool for preserve_sparsity; got preserve_sparsity=1."),
    "init": (
        mlp,
        {"cluster_centroids_init": "uniform"},
        ValueError,
        "cluster_centroids_init to be one of 'kmeans++', 'linear', 'density', 'random'; got",
    ),
    "init list": (mlp, {"cluster_centroids_init": []}, ValueError, "cluster_centroids_init to be one of"),
    "aggregation": (
        mlp,
        {"cluster_gradient_aggregation": "max"},
        ValueError,
        "cluster_gradient_aggregation to be one of 'sum', 'avg'; got cluster_gradient_aggregation='max'.",
    ),
    "layers": (mlp, {"layers": ["no"]}, ValueError, "layers of the model; got layers='no'."),
    "one kernel": (tied, {}, ValueError, "layers with kernels of their own; got layer='decoder'. Untie the layers"),
    "twice": (lambda: cluster_weights(mlp(), 4), {}, ValueError, "a model that is not clustered yet; got model="),
}


def test_half_of_a_symmetric_kernel_is_left_as_it_is():
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, name="plain"), SymmetricDense(8)])
    clustered = strip_clustering(cluster_weights(model, 3))
    assert list(cluster_report(clustered).values()) == [3]
    np.testing.assert_array_equal(clustered.layers[1].weights[0], model.layers[1].weights[0])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_clustered_is_refused(name):
    make, arguments, error, message = REFUSED[name]
    with pytest.raises(error, match=re.escape(f"cluster_weights: expected {message}")):
        cluster_weights(make(), **{"number_of_clusters": 4, **arguments})


def test_a_model_that_is_not_clustered_is_not_stripped():
    with pytest.raises(ValueError, match="strip_clustering: expected a model from cluster_weights; got model="):
        strip_clustering(mlp())
    with pytest.raises(ValueError, match="cluster_report: expected a built model; got model="):
        cluster_report(keras.Sequential([L.Dense(4)]))
