"""What a measurement of gradients through time says, draws and writes."""

import math

import keras
import numpy as np
import pytest

from keras_kicks.diagnostics import GradientThroughTime, StateGradient


def curve(norms, layer="rnn"):
    return StateGradient(layer, np.atleast_2d(np.asarray(norms, "float64")))


def geometric(rate, lags=50, samples=3):
    """Norms that change by a factor in each step, of samples on different scales."""
    return np.array([[0.5], [1.0], [4.0]][:samples]) * rate ** np.arange(lags)


@pytest.mark.parametrize(
    ("rate", "lags", "verdict"),
    [
        (0.8, 50, "vanishing"),
        (1.2, 50, "exploding"),
        (0.95, 50, "healthy"),  # 0.95^49 = 1/12
        (0.95, 100, "vanishing"),  # 0.95^99 = 1/160
        (1.05, 50, "healthy"),
        (1.05, 100, "exploding"),
        (1.0, 1000, "healthy"),
    ],
)
def test_the_verdict_is_about_the_whole_sequence(rate, lags, verdict):
    result = curve(geometric(rate, lags))
    assert result.rate == pytest.approx(rate, rel=1e-9)
    assert result.verdict == verdict


def test_a_fall_to_a_hundredth_is_the_limit():
    for factor, verdict in ((99, "healthy"), (101, "vanishing")):
        assert curve(geometric(factor ** (-1 / 49))).verdict == verdict
        assert curve(geometric(factor ** (1 / 49))).verdict == {"vanishing": "exploding"}.get(verdict, verdict)


@pytest.mark.parametrize(
    ("norms", "verdict", "rate"),
    [
        ([1.0, 0.5, 0.0, 0.0], "vanishing", 0.5),  # Underflow.
        ([0.0, 0.5, 0.25, 0.0], "vanishing", 0.5),
        ([1.0, 2.0, np.inf, np.inf], "exploding", 2.0),
        ([1.0, 0.0, 0.0], "vanishing", math.nan),  # A layer without memory.
        ([1.0], "unknown", math.nan),
        ([0.0, 0.0, 0.0], "unknown", math.nan),
        ([1.0, 0.0, 0.0, 0.8, 0.0, 0.0, 0.64, 0.0, 0.0], "healthy", 0.8 ** (1 / 3)),  # A dilated network.
        ([1.0, 0.0, 0.0, 0.8, 0.0, 0.0, 0.64, 0.0, 0.0, 0.0], "vanishing", 0.8 ** (1 / 3)),
        ([0.0, 0.5, 0.25, 0.125], "healthy", 0.5),  # A state that the last output is not made of.
        ([0.0, 0.0, 1.0], "unknown", math.nan),  # A layer whose last steps nothing depends on.
    ],
)
def test_what_is_no_line(norms, verdict, rate):
    result = curve(norms)
    assert result.verdict == verdict
    assert result.rate == pytest.approx(rate, nan_ok=True)


def test_statistics_are_over_the_samples_that_have_the_lag():
    result = curve([[1.0, 2.0, 3.0, 4.0], [3.0, 6.0, np.nan, np.nan], [8.0, np.nan, np.nan, np.nan]])
    assert result.lags.tolist() == [0, 1, 2, 3]
    assert result.median.tolist() == [3, 4, 3, 4]
    assert result.mean.tolist() == [4, 4, 3, 4]
    assert result.quantile([0, 1]).tolist() == [[1, 2, 3, 4], [8, 6, 3, 4]]


def test_the_table_has_a_line_for_each_layer():
    result = GradientThroughTime((curve(geometric(0.5, 11), "first"), curve(geometric(1.0, 5), "second/cell")))
    assert [line.split() for line in str(result).splitlines()[1:]] == [
        ["first", "11", "1", "0.000977", "0.500", "vanishing"],
        ["second/cell", "5", "1", "1", "1.000", "healthy"],
    ]
    assert result["second/cell"] is result.curves[1]


def ink(image):
    """Return the mean row of the coloured pixels, for each column that has some."""
    pixels = image[:-60, 90:].astype("int32")  # Without the axes.
    strong = pixels.max(axis=-1) - pixels.min(axis=-1) > 120
    return [np.flatnonzero(column).mean() for column in strong.T if column.any()]


def test_the_picture_shows_where_the_norm_goes():
    for rate, direction in ((0.7, 1), (1.3, -1)):
        image = GradientThroughTime((curve(geometric(rate), "a"),)).picture()
        assert (image.dtype, image.shape) == (np.dtype("uint8"), (400, 700, 3))
        rows = ink(image)
        middle = rows[len(rows) // 3 : 2 * len(rows) // 3]
        assert np.sign(np.diff(middle)).mean() * direction > 0.2
        # A line on the logarithmic scale.
        fit = np.polyval(np.polyfit(range(len(middle)), middle, 1), range(len(middle)))
        assert np.abs(fit - middle).max() < 4


def test_what_has_no_logarithm_is_drawn_too():
    for curves in ([curve([0.0, 0.0])], [curve([0.0, 0.0]), curve([1.0, np.inf]), curve([1.0])]):
        assert GradientThroughTime(tuple(curves)).picture().shape == (400, 700, 3)


@pytest.mark.tensorflow
def test_tensorboard_gets_the_curve_the_rate_the_table_and_the_picture(tmp_path):
    import tensorflow as tf
    from event_files import read

    result = GradientThroughTime((curve(geometric(0.5, 6), "first"), curve(geometric(1.0, 4), "second")))
    result.write(tmp_path / "own", step=7)
    writer = tf.summary.create_file_writer(str(tmp_path / "given"))
    result.write(writer, step=7)
    result.write(writer, step=8, picture=False)
    writer.close()
    found = read(tmp_path / "own")
    tags = [
        f"gradient_through_time/{name}/{tag}" for name in ("first", "second") for tag in ("norm_by_lag_at_7", "rate")
    ]
    assert sorted(found) == sorted(["gradient_through_time", "gradient_through_time/picture", *tags])
    for name in ("first", "second"):
        lags, norms = zip(*found[f"gradient_through_time/{name}/norm_by_lag_at_7"], strict=True)
        assert list(lags) == result[name].lags.tolist()
        np.testing.assert_allclose(norms, result[name].median, rtol=1e-6)
        assert found[f"gradient_through_time/{name}/rate"] == [(7, pytest.approx(result[name].rate))]
    (_, text), (step, image) = *found["gradient_through_time"], *found["gradient_through_time/picture"]
    assert text.decode().splitlines()[2].split(" | ")[0] == "| first"
    assert step == 7
    assert image[:2].tolist() == [b"700", b"400"]
    np.testing.assert_array_equal(tf.io.decode_png(image[2]), result.picture())
    again = read(tmp_path / "given")
    assert [step for step, _ in again["gradient_through_time/first/rate"]] == [7, 8]
    assert [step for step, _ in again["gradient_through_time"]] == [7, 8]
    assert [step for step, _ in again["gradient_through_time/picture"]] == [7]


@pytest.mark.tensorflow
def test_the_callback_draws_it(tmp_path):
    """As the function of an image of `keras_kicks.callbacks.TensorBoard`."""
    from event_files import read

    from keras_kicks.callbacks import TensorBoard
    from keras_kicks.diagnostics import gradient_through_time

    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("float32")
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.GRU(3)])
    model.compile("sgd", "mse")
    images = {"gradient": lambda model: gradient_through_time(model, x).picture()}
    model.fit(x, np.zeros((4, 3)), epochs=2, verbose=0, callbacks=[TensorBoard(tmp_path, images=images)])
    assert [step for step, _ in read(tmp_path / "run")["gradient"]] == [0, 1]
