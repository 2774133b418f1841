"""The parts of the expected squared loss of a model."""

import keras
import numpy as np

from keras_kicks._errors import expect, expect_integer, expect_seed
from keras_kicks._seeds import numpy_seed
from keras_kicks.diagnostics.bias_variance_result import BiasVariance
from keras_kicks.diagnostics.compared_targets import checked_noise, checked_targets
from keras_kicks.diagnostics.replicate import Replicates
from keras_kicks.diagnostics.squared_loss import loss_parts

OWNER = "bias_variance"
LEVELS = ("data", "initialization", "order")


def bias_variance(
    build_fn,
    make_data,
    x_test,
    target=None,
    *,
    y_test=None,
    noise=None,
    data_sets=20,
    initializations=2,
    orders=2,
    epochs=1,
    batch_size=32,
    fit=None,
    bootstrap=True,
    reuse=True,
    seed=0,
):
    """Split the expected squared loss into bias^2, variance and noise, and the variance by where it comes from.

        E (y - f(x))^2 = (E f(x) - E y)^2 + Var f(x) + Var y
        Var f = Var E[f | data] + E Var(E[f | data, initialization] | data) + E Var(f | data, initialization)

    A model is trained on each of `data_sets` data sets, from `initializations` initial weights each, in `orders`
    orders of the batches each. No two data sets share a seed, so they are independent, and the standard errors count
    them alone. All estimates are unbiased: what a finite number of replicates adds to the square of the mean error
    and to the variance of means is taken off, so small parts may come out below 0. bias^2, variance and noise sum to
    the loss that was measured. Values are means over the test points and over the outputs, as Keras's "mse".

    "data" is the variance of an infinite ensemble over initializations and orders; the other two are what such an
    ensemble removes. What `build_fn` draws besides weights, such as the seeds of dropout, counts as initialization.
    It holds for squared loss only: classifiers are refused, but the probabilities of a model that is trained by the
    squared loss of one-hot labels (Brier score) are a regression.

    Args:
        build_fn: Function that returns a new compiled Keras model, or an estimator with `fit` and `predict`. It is
            given a seed if it has an argument `seed`, or one without a default. Meanwhile, and in the `fit` of an
            estimator, Python's and NumPy's draws are seeded, from which Keras takes the seeds of initializers and
            layers that have none. Seeds that `build_fn` fixes are fixed: then there is no variance of the
            initialization. On torch, dropout without a seed draws from torch's own state, which is left alone.
        make_data: Function of a seed that returns a fresh data set `(x, y)` or `(x, y, sample_weight)`. Or such a
            tuple: then bootstrap samples of it stand for fresh data sets, which is an approximation: each has but
            63 % of the samples in it.
        x_test: Inputs at which the loss is taken apart; at least one.
        target: E y at these, without noise: an array of shape (points,) or (points, outputs), or a function of
            `x_test`. Then the test points are taken as they are.
        y_test: Observed y instead: with noise, in the same shape. bias^2 and noise come out together unless `noise`
            is given. With a further first axis, of independent observations at the same points, they are told apart.
            The standard errors take the test points as a sample.
        noise: Variance of the noise, if known: a number, or an array of one for each point.
        data_sets: Data sets, >= 2; with 3 the errors are the jackknife's, with 2 there are none for what is of pairs.
        initializations: Initial weights for each, >= 1. What has one replicate is joined with the part before it.
        orders: Orders of the batches for each, >= 1. For estimators it is the order of the samples.
        epochs: Passes over the data, >= 0.
        batch_size: Samples of a batch.
        fit: Function of the model, x, y, sample_weight where there is one, and the seed of the order, that trains it
            in place of `model.fit(...)` or `estimator.fit(x, y)`.
        bootstrap: Whether a tuple is sampled. Without, all is for this one data set: `data_sets` is not used, and
            the independent replicates are the initializations, of which there have to be two.
        reuse: Whether all Keras models are trained in the first one, given the others' weights and a new optimizer:
            one is traced for all. False for models with a state that is in no variable.
        seed: Of all seeds: an integer, or None for new ones.

    Returns:
        A `BiasVariance`: a table when printed, the estimates for each point, a picture, scalars for TensorBoard.

    Raises:
        TypeError: a number is no integer; build_fn or make_data is none of those.
        ValueError: expected data_sets >= 2, or two initializations for one data set; either target or y_test; at least
            one test point; targets of the shape of the predictions; no classifier; a compiled model; build_fn to return
            a new model with new weights each time; as many targets as inputs; finite predictions.

    Source:
        Geman, Bienenstock and Doursat 1992; Neal, Mittal, Baratin, Tantia, Scicluna, Lacoste-Julien and Mitliagkas,
        "A modern take on the bias-variance tradeoff in neural networks", 2018, arXiv:1810.08591. Departure: theirs
        are plug-in estimates, without the corrections for finite replicates.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.diagnostics import bias_variance
        >>> def make_data(seed):
        ...     rng = np.random.default_rng(seed)
        ...     x = rng.uniform(-1, 1, size=(20, 1))
        ...     return x, x**2 + 0.1 * rng.normal(size=(20, 1))
        >>> def build_fn():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(0.5), "mse")
        ...     return model
        >>> x = np.linspace(-1, 1, 9)[:, None]
        >>> parts = bias_variance(build_fn, make_data, x, lambda x: x**2, noise=0.01, data_sets=4, epochs=50)
        >>> bool(parts["bias^2"].value > parts["variance"].value)  # A line for a parabola
        True
    """
    counts = {"data_sets": data_sets, "initializations": initializations, "orders": orders, "batch_size": batch_size}
    expect_integer(OWNER, **counts, epochs=epochs)
    expect_seed(OWNER, seed)
    is_function = callable(build_fn) and not isinstance(build_fn, keras.layers.Layer)
    remedy = "It makes a model of new weights for each replicate."
    expect(is_function, OWNER, "a function for build_fn", remedy, TypeError, build_fn=build_fn)
    one = not callable(make_data) and not bootstrap
    for name, least in {"data_sets": 2 - one, "initializations": 1 + one, "orders": 1, "batch_size": 1}.items():
        expect(counts[name] >= least, OWNER, f"{name} >= {least}", **{name: counts[name]})
    expect(epochs >= 0, OWNER, "epochs >= 0", epochs=epochs)
    expect((target is None) != (y_test is None), OWNER, "either target or y_test", target=target, y_test=y_test)
    shapes = [np.shape(part)[:1] for part in keras.tree.flatten(x_test)]
    expect(shapes and (0,) not in shapes, OWNER, "at least one test point", shapes=shapes)
    if not callable(make_data):
        fixed = checked_data(make_data)
    sizes = (1 if one else data_sets, initializations, orders)
    replicates = Replicates(OWNER, build_fn, fit, epochs, batch_size, reuse)
    exact, compared, found = target is not None, None, []
    for of_data in np.random.SeedSequence(numpy_seed(seed)).spawn(sizes[0]):
        if callable(make_data):
            data = checked_data(make_data(_integer(of_data)))
        else:
            data = fixed if one else _bootstrap(fixed, np.random.default_rng(of_data))
        for of_weights in of_data.spawn(initializations):
            order_seeds = [_integer(s) for s in of_weights.spawn(orders)]
            found += replicates.predictions(data, x_test, _integer(of_weights), order_seeds)
            for number in range(len(found) - orders, len(found)):
                _expect_finite(found[number], found[0], np.unravel_index(number, sizes))
            if compared is None:
                given = target(x_test) if callable(target) else target if exact else y_test
                compared = checked_targets(OWNER, given, found[0].shape, exact)
                noise = checked_noise(OWNER, noise, len(found[0]), len(compared))
    predictions = np.stack(found).astype("float64").reshape(*sizes, len(found[0]), -1)
    parts = loss_parts(predictions[0] if one else predictions, LEVELS[one:], compared, noise, exact)
    x = np.asarray(x_test) if hasattr(x_test, "__array__") else None
    return BiasVariance(parts, predictions, compared, x)


def checked_data(data):
    """Return a data set as a tuple of arrays."""
    fits = isinstance(data, (tuple, list)) and len(data) in (2, 3)
    remedy = "Or a function of a seed that returns it."
    expect(fits, OWNER, "a data set (x, y) or (x, y, sample_weight)", remedy, TypeError, data_set=type(data).__name__)
    data = keras.tree.map_structure(np.asarray, tuple(data))
    lengths = [len(a) if a.ndim else 0 for a in keras.tree.flatten(data)]
    expect(len(set(lengths)) == 1 and lengths[0] > 0, OWNER, "as many targets as inputs", lengths=lengths)
    kinds = {a.dtype.kind for a in keras.tree.flatten(data[1])}
    remedy = "The decomposition holds for squared loss; of labels that is the one of their one-hot form."
    expect(kinds <= set("iuf"), OWNER, "targets that are numbers", remedy, kinds=sorted(kinds))
    return data


def _bootstrap(data, rng):
    samples = len(keras.tree.flatten(data)[0])
    rows = rng.integers(0, samples, size=samples)
    return keras.tree.map_structure(lambda array: array[rows], data)


def _integer(sequence):
    """Return a seed that NumPy, scikit-learn and Keras take."""
    return int(sequence.generate_state(1)[0] >> 1)


def _expect_finite(prediction, first, place):
    array = isinstance(prediction, np.ndarray) and prediction.ndim > 0
    remedy = "Models with several outputs are decomposed one by one."
    expect(array, OWNER, "an array of predictions", remedy, TypeError, predictions=type(prediction).__name__)
    expect(prediction.shape == first.shape, OWNER, "predictions of one shape", shape=prediction.shape)
    finite, place = bool(np.isfinite(prediction).all()), dict(zip(LEVELS, map(int, place), strict=True))
    expect(finite, OWNER, "finite predictions", "Lower the learning rate, or look at the data.", **place)
