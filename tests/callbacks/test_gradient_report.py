"""What the numbers of layers are taken for, and what is written."""

import os

import keras
import numpy as np
import pytest
from event_files import kinds, read
from keras import layers

from keras_kicks.callbacks import GradientFlow, GradientReport, LayerFlow, gradient_flow_picture

pytestmark = pytest.mark.tensorflow


def report(rms, norms=(1.0,), before=None, **more):
    flows = [LayerFlow(f"layer_{i}", value, value, 0.001) for i, value in enumerate(rms)]
    return GradientReport((*flows, *more.values()), (0, 10), norms, before)


@pytest.mark.parametrize(
    ("rms", "verdict", "reason"),
    [
        ([1.0, 1.0, 1.0], "healthy", None),
        ([0.011, 0.1, 1.0], "healthy", None),
        ([90.0, 10.0, 1.0], "healthy", None),
        (
            [0.001, 0.009, 1.0],
            "vanishing",
            "In layer_0 to layer_1 the gradient is at most 0.009 of that in layer_2: vanishing from layer_1 to the",
        ),
        (
            [0.001, 0.1, 1.0],
            "vanishing",
            "In layer_0 the gradient is at most 0.001 of that in layer_2: vanishing from layer_0 to the input.",
        ),
        # A branch with little gradient is none of the way back to the input.
        ([1.0, 0.001, 1.0], "healthy", None),
        ([0.0, 1.0], "vanishing", "In layer_0 the gradient is at most 0 of that in layer_1: vanishing from layer_0"),
        ([0.0, 0.0], "vanishing", "No layer has a gradient but 0."),
        (
            [1000.0, 5.0, 1.0],
            "exploding",
            "In layer_1 to layer_2 the gradient is at most 0.005 of that in layer_0: exploding from layer_1 to the",
        ),
        ([1.0, np.inf, 1.0], "exploding", "The gradient is not finite in layer_1."),
        ([np.inf], "exploding", "The gradient is not finite in layer_0."),
        ([1.0], "unknown", None),
        ([], "unknown", None),
    ],
)
def test_verdict(rms, verdict, reason):
    found = report(rms)
    assert found.verdict == verdict
    assert (found.reasons == ()) if reason is None else found.reasons[0].startswith(reason)


def test_a_norm_that_rises_is_exploding():
    assert report([1.0, 1.0], norms=(99.0,), before=1.0).verdict == "healthy"
    found = report([1.0, 1.0], norms=(1.0, 250.0, 2.0), before=2.0)
    assert found.verdict == "exploding"
    assert found.reasons == ("The norm of all gradients rose to 250, 125 times its median before.",)


def test_dead_and_saturated_layers_are_named():
    more = {
        "a": LayerFlow("relu", dead=0.75),
        "b": LayerFlow("tanh", saturated=0.51),
        "c": LayerFlow("fine", dead=0.5),
    }
    found = report([1.0, 1.0], **more)
    assert found.verdict == "healthy"
    assert found.reasons == (
        "More than half of the units are dead in relu (75%).",
        "More than half of the values are saturated in tanh (51%).",
    )


def test_layers_of_which_nothing_is_known_have_no_part_in_the_verdict():
    found = report([1.0, 1.0], a=LayerFlow("norm", 5.0), b=LayerFlow("relu", dead=0.0))
    assert found.verdict == "healthy"


def test_what_has_no_kernel_can_be_infinite_too():
    found = report([1.0, 1.0], norms=(np.inf,), a=LayerFlow("norm", np.inf))
    assert found.verdict == "exploding"
    assert found.reasons == ("The gradient is not finite in norm.",)


def test_it_prints_as_a_table():
    lines = str(report([0.0001, 1.0], a=LayerFlow("relu", dead=0.25))).splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert lines[1].split() == ["layer_0", "0.0001", "0.0001", "0.001"]
    assert lines[3].split() == ["relu", "25.0%"]
    assert lines[4] == "verdict: vanishing"
    assert lines[5].startswith("In layer_0 the gradient is at most 0.0001")


def test_it_gives_a_layer_by_its_path():
    found = report([1.0, 2.0])
    assert found["layer_1"].gradient_norm == 2.0
    with pytest.raises(KeyError, match="'nowhere'; there are: 'layer_0', 'layer_1'"):
        found["nowhere"]


@pytest.mark.parametrize("rms", [[1e-9, 1.0], [0.0, 0.0], [np.inf, 1.0], [1.0]])
def test_it_draws_what_a_logarithm_has_and_leaves_out_the_rest(rms):
    image = report(rms).picture()
    assert image.shape == (400, 700, 3)
    assert image.dtype == np.uint8
    assert image.min() < 100 < image.max()


def test_several_models_are_drawn_as_several_curves():
    one, two = report([1e-6, 1.0]), report([1.0, 1.0, 1.0])
    both = gradient_flow_picture({"one": one, "two": two})
    colors = {tuple(pixel) for pixel in both.reshape(-1, 3)}
    assert {(31, 119, 180), (255, 127, 14)} <= colors  # The first two of matplotlib's cycle.
    assert (255, 127, 14) not in {tuple(pixel) for pixel in one.picture().reshape(-1, 3)}


def deep(activation, scale, depth=8):
    """Return layers whose kernels are `scale` times a rotation: a gradient changes by that factor at each."""
    weights = keras.initializers.Orthogonal(scale)
    hidden = [layers.Dense(16, activation, kernel_initializer=weights, name=f"hidden_{i}") for i in range(depth)]
    return keras.Sequential([keras.Input((16,)), *hidden, layers.Dense(16, kernel_initializer=weights, name="out")])


@pytest.mark.parametrize(
    ("activation", "scale", "verdict"),
    [(None, 1.0, "healthy"), ("sigmoid", 1.0, "vanishing"), ("tanh", 1.0, "healthy"), ("relu", 1.4, "healthy")],
)
def test_verdict_of_networks(activation, scale, verdict):
    net, flow = deep(activation, scale), GradientFlow(sample_freq=1)
    net.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    net.fit(rng.normal(size=(64, 16)), rng.normal(size=(64, 16)), verbose=0, callbacks=[flow])
    assert flow.report.verdict == verdict


def test_a_linear_network_has_the_factor_of_its_kernels():
    """By the biases; the gradient by a kernel is activation times delta, and one grows as the other shrinks."""
    net, flow = deep(None, 0.5), GradientFlow(sample_freq=1)
    net.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 16))
    net.fit(x, x + 1, batch_size=64, verbose=0, callbacks=[flow])
    biases = [s["bias"].gradient_norm for s in flow._samples[0].statistics.values()]
    np.testing.assert_allclose(np.array(biases[1:]) / biases[:-1], 2.0, rtol=1e-4)


def test_what_tensorboard_shows(tmp_path):
    net = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, "relu", name="first"), layers.Dense(1, "tanh", name="last")]
    )
    net.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 1))
    flow = GradientFlow(tmp_path, sample_freq=3)
    for _ in range(2):
        net.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[flow])
    found, plugins = read(tmp_path / "gradients"), kinds(tmp_path / "gradients")
    steps = [0, 3, 6, 9, 12, 15, 18]
    curves = ["gradient_norm", "gradient_norm/first", "gradient_norm/last", "update_ratio/first", "update_ratio/last"]
    curves += ["dead_units/first", "saturated/last"]
    histograms = [f"gradient/{layer}/{name}" for layer in ("first", "last") for name in ("kernel", "bias")]
    assert sorted(found) == sorted([*curves, *histograms, "gradient_flow", "gradient_flow/picture"])
    for tag in [*curves, *histograms]:
        assert [step for step, _ in found[tag]] == steps
        assert plugins[tag] == ("scalars" if tag in curves else "histograms")
    last = flow._samples[-1]
    assert found["gradient_norm/first"][-1][1] == pytest.approx(last.numbers("first")["gradient_norm"], rel=1e-6)
    histogram = found["gradient/first/kernel"][-1][1]
    np.testing.assert_array_equal(histogram, last.statistics["first"]["kernel"].histogram)
    assert histogram.shape == (30, 3)
    assert histogram[:, 2].sum() == 24
    # A text and a picture for each epoch.
    texts, images = found["gradient_flow"], found["gradient_flow/picture"]
    assert [step for step, _ in texts] == [step for step, _ in images] == [3, 9, 12, 18]
    text = texts[-1][1].decode()
    assert text.startswith("**healthy** (steps 15 to 18, 2 of them)")
    assert "| first |" in text
    assert images[-1][1][2].startswith(b"\x89PNG")


def test_without_a_directory_and_without_histograms_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = deep("tanh", 1.0, depth=1)
    net.compile("sgd", "mse")
    net.fit(np.ones((8, 16)), np.ones((8, 16)), verbose=0, callbacks=[GradientFlow(sample_freq=1)])
    assert not os.listdir(tmp_path)
    net.fit(np.ones((8, 16)), np.ones((8, 16)), verbose=0, callbacks=[GradientFlow("logs", 1, histograms=False)])
    plugins = kinds(tmp_path / "logs" / "gradients")
    assert "histograms" not in plugins.values()
    assert "scalars" in plugins.values()
