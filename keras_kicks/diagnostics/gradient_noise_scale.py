"""How noisy the gradient of a batch is."""

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks._layer_tree import parts_by_path
from keras_kicks.callbacks.layer_norms import weights_by_layer
from keras_kicks.compression.prune import expect_model
from keras_kicks.diagnostics.gradient_noise import GradientNoiseScale
from keras_kicks.diagnostics.loss_gradients import batches, given_batches, gradient_function
from keras_kicks.diagnostics.unchanged import unchanged

OWNER = "gradient_noise_scale"


def gradient_noise_scale(model, x, y=None, sample_weight=None, *, loss=None, batch_size=32, training=False, seed=0):
    """Measure the gradient of all data, and how much the gradients of single samples differ from it.

    With the gradient G of all data and the covariance S of the gradients of single samples, the gradient of a batch of
    B samples is off by sqrt(trace(S) / B) in the root mean square, and

        noise scale = trace(S) / |G|^2

    is the batch at which that is as long as G itself. Well below it, twice the batch saves half of the steps; well
    above, it saves none.

    The gradient of all data is exact, but needs the memory of one batch: it is the mean over batches. From how these
    differ follows the covariance; both have no bias, whatever the size of the batches. The model is as it was
    afterwards.

    Args:
        model: A built model.
        x: Inputs in the structure that the model takes; or a dataset that yields what `fit` takes, each sample once,
            in random order.
        y: Targets.
        sample_weight: Weights of the samples.
        loss: Function of the targets and the outputs that returns a scalar. By default what the model was compiled
            with. It has to be a mean over samples, and penalties.
        batch_size: Samples of a batch, not for a dataset. All but the last are as large; there are at least two.
        training: Whether the model is called in training mode. Then dropout is a part of the noise, and with batch
            normalization the gradient is that of such batches.
        seed: Seed of the order in which the samples are taken, or None.

    Returns:
        A `GradientNoiseScale`: that of all weights and of each layer, the gradient, and what a batch size costs.

    Raises:
        NotImplementedError: the backend is JAX.
        TypeError: `model` is no layer of Keras 3; batch_size is no integer.
        ValueError: expected a built model; with trainable weights; a compiled model, or a loss; batch_size >= 1; at
            least two batches; as many targets as inputs; a loss that is a scalar.

    Source:
        McCandlish, Kaplan, Amodei and OpenAI Dota team, "An empirical model of large-batch training", 2018,
        arXiv:1812.06162, appendix A.1, with all batches for the small one and all data for the big one.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.diagnostics import gradient_noise_scale
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.zeros((1, 1))])
        >>> model.compile(loss="mse")
        >>> x = np.ones((400, 1))
        >>> noise = gradient_noise_scale(model, x, x + np.random.default_rng(0).normal(size=(400, 1)), batch_size=1)
        >>> bool(0.7 < noise.noise_scale < 1.4)  # Of targets 1 +- 1
        True
    """
    expect_model(OWNER, model)
    expect_integer(OWNER, batch_size=batch_size)
    expect(batch_size >= 1, OWNER, "batch_size >= 1", batch_size=batch_size)
    variables = model.trainable_variables
    expect(bool(variables), OWNER, "a model with trainable weights", trainable_weights=0)
    compiled = bool(getattr(model, "compiled", False))
    expect(loss is not None or compiled, OWNER, "a compiled model", "Compile it, or pass a loss.", compiled=compiled)
    arrays = y is not None or hasattr(x, "shape") or isinstance(x, (dict, list, tuple))
    parts = (x, y, sample_weight, batch_size, seed)
    data = batches(OWNER, *parts) if arrays else given_batches(x)
    gradients = gradient_function(OWNER, model, loss, training)
    recurrent = [part for part in parts_by_path(model).values() if isinstance(part, keras.layers.RNN)]
    with unchanged(model, recurrent):
        mean, squares, samples, count = _moments(data, gradients, variables)
    expect(count > 1, OWNER, "at least two batches", "Pass a smaller batch_size.", batches=count)
    traces = [float(s) / (count - 1) for s in squares]
    places = {id(v): i for i, v in enumerate(variables)}
    layers = {}
    for path, weights in weights_by_layer(model).items():
        own = [places[id(v)] for v in weights if id(v) in places]
        if own:
            layers[path] = tuple(own)
    return GradientNoiseScale(tuple(mean), tuple(traces), samples, count, layers)


def _moments(data, gradients, variables):
    """Return the mean gradient, the sums of squared distances to it, weighted by samples, and the two numbers."""
    mean = [np.zeros(tuple(v.shape), "float64") for v in variables]
    squares, samples, count = np.zeros(len(mean)), 0, 0
    for x, y, sample_weight, size in data:
        found = [np.asarray(ops.convert_to_numpy(g), "float64") for g in gradients(x, y, sample_weight)]
        samples, count = samples + size, count + 1
        for i, gradient in enumerate(found):
            # Welford's way: a difference of two large sums would lose what is small.
            gradient -= mean[i]
            squares[i] += size * (samples - size) / samples * np.sum(np.square(gradient))
            gradient *= size / samples
            mean[i] += gradient
    return mean, squares, samples, count
