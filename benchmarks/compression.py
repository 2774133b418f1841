"""What do pruning, clustering and quantization-aware training add to a training step?"""

import keras

from benchmarks import networks, stock
from benchmarks.harness import Ratio, Result, race
from benchmarks.steps import fit_step, labelled
from keras_kicks.compression import ConstantSparsity, cluster_weights, prune_low_magnitude, quantize_model

PLAIN = "Keras"
TARGETS = {"pruning": 1.10, "clustering": None, "quantization": 1.15}


def prepared(what, model):
    """Return the network, compressed as TFMOT's is in `stock`."""
    if what == "pruning":
        return prune_low_magnitude(model, ConstantSparsity(0.8, 0, frequency=100))
    if what == "clustering":
        return cluster_weights(model, 16, cluster_centroids_init="linear")
    return quantize_model(model)


def run(smoke=False):
    """Time steps of Adam on an MLP (784-512-512-10, batch 128) and a CNN (two convolutions, batch 64)."""
    results = []
    for what, target in TARGETS.items():
        ours = f"keras_kicks, {what}"
        # Every question starts TFMOT anew, which takes some seconds.
        for network in networks.NAMES[:1] if smoke else networks.NAMES:
            for jit in (False,) if smoke else (False, True):
                models = {PLAIN: networks.make(keras, network, smoke)}
                models[ours] = prepared(what, networks.make(keras, network, smoke))
                runs = {
                    name: fit_step(networks.compiled(keras, model, jit), *networks.batch(network))
                    for name, model in models.items()
                }
                ratios = [Ratio(ours, PLAIN, target), Ratio(stock.compressed(what), stock.plain())]
                with stock.contestants(what, network, jit, smoke) as others:
                    times = race({**runs, **others}, 3 if smoke else 150)
                results.append(Result(f"{what.capitalize()} of a {network}, {labelled(jit)}", "ms", times, ratios))
    return results
