"""Pruning by TFMOT itself, on Keras 2."""

import numpy as np


def run(arrays, cases, optimizers):
    """Train an MLP from given weights; return losses, weights after, and masks in each step, by `case/optimizer/what`.

    `cases` are by name (schedule, its arguments, arguments of `prune_low_magnitude`), `optimizers` learning rates.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras  # noqa: TID251

    sparsity = tfmot.sparsity.keras
    results = {}
    for case, (schedule, numbers, arguments) in cases.items():
        for optimizer, rate in optimizers.items():
            layers = [tf_keras.layers.Dense(16, "relu"), tf_keras.layers.Dense(8, "relu"), tf_keras.layers.Dense(3)]
            model = tf_keras.Sequential([tf_keras.Input((12,)), *layers])
            model.set_weights([arrays[f"weight{index}"] for index in range(6)])
            model = sparsity.prune_low_magnitude(model, getattr(sparsity, schedule)(**numbers), **arguments)
            model.compile(
                getattr(tf_keras.optimizers, optimizer)(rate),
                tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            )
            steps = sparsity.UpdatePruningStep()
            steps.set_model(model)
            steps.on_train_begin()
            record = {"losses": [], **{f"{what}{i}": [] for what in ("kernel", "bias", "mask") for i in range(3)}}
            for x, y in zip(arrays["x"], arrays["y"], strict=True):
                record["losses"].append(model.train_on_batch(x, y))
                for index, wrapper in enumerate(model.layers):
                    record[f"kernel{index}"].append(wrapper.layer.kernel.numpy())
                    record[f"bias{index}"].append(wrapper.layer.bias.numpy())
                    record[f"mask{index}"].append(wrapper.pruning_vars[0][1].numpy())
            results.update({f"{case}/{optimizer}/{what}": np.array(values) for what, values in record.items()})
    return results
