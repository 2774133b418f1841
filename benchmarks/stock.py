"""Steps of stock TFMOT on Keras 2 as contestants: in a process of its own, one step each time it is asked.

`TF_USE_LEGACY_KERAS`, without which it does not work, changes Keras for a whole process. The answer over a pipe is part
of the time, some hundredths of a millisecond.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path


@contextlib.contextmanager
def contestants(what, network, jit_compile, smoke):
    """Give the runs of one step by name: of the network as it is, and compressed by TFMOT.

    Args:
        what: "pruning", "clustering" or "quantization".
        network: Name from `networks.NAMES`.
        jit_compile: Whether steps are compiled by XLA.
        smoke: Whether the network is tiny.
    """
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "benchmarks.stock", what, network, str(int(jit_compile)), str(int(smoke))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[1], text=True, **pipes) as process:

        def ask(name):
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            if process.stdout.readline().strip() != "done":
                raise RuntimeError(f"benchmarks.stock: {what} on {network}: the process of TFMOT has ended")

        try:
            yield {name: lambda name=name: ask(name) for name in (plain(), compressed(what))}
        finally:
            process.stdin.close()
            process.wait(timeout=60)


def plain():
    """Return the name of the network as it is, in Keras 2."""
    return "Keras 2"


def compressed(what):
    """Return the name of the network that TFMOT compresses."""
    return f"TFMOT, {what}, Keras 2"


def _serve(what, network, jit_compile, smoke):
    """Run a step for each line of the input."""
    import tf_keras  # noqa: TID251

    from benchmarks import networks
    from benchmarks.steps import fit_step

    jit_compile, smoke = bool(int(jit_compile)), bool(int(smoke))
    models = {
        plain(): networks.make(tf_keras, network, smoke),
        compressed(what): _prepared(what, networks.make(tf_keras, network, smoke)),
    }
    steps = {}
    for name, model in models.items():
        step = fit_step(networks.compiled(tf_keras, model, jit_compile), *networks.batch(network))
        steps[name] = _with_callback(model, step) if what == "pruning" and name != plain() else step
    for line in sys.stdin:
        steps[line.strip()]()
        print("done", flush=True)


def _prepared(what, model):
    import tensorflow_model_optimization as tfmot

    if what == "pruning":
        schedule = tfmot.sparsity.keras.ConstantSparsity(0.8, 0, frequency=100)
        return tfmot.sparsity.keras.prune_low_magnitude(model, schedule)
    if what == "clustering":
        linear = tfmot.clustering.keras.CentroidInitialization.LINEAR
        return tfmot.clustering.keras.cluster_weights(model, number_of_clusters=16, cluster_centroids_init=linear)
    return tfmot.quantization.keras.quantize_model(model)


def _with_callback(model, step):
    """Return the step with the callback that TFMOT's pruning cannot do without."""
    import tensorflow_model_optimization as tfmot

    callback = tfmot.sparsity.keras.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()

    def run():
        callback.on_train_batch_begin(0)
        step()

    return run


if __name__ == "__main__":
    _serve(*sys.argv[1:])
