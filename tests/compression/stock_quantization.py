"""Quantization-aware training by TFMOT itself, on Keras 2."""


def run(arrays, runs):
    """Train models from given weights.

    Args:
        arrays: Initial weights as `{"model/layer/index": array}`.
        runs: List of (model, optimizer, learning rate).

    Returns:
        `{"model/optimizer/losses": ..., "model/optimizer/outputs": ...}`.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras  # noqa: TID251
    from compression import quantized_models

    # The fused kernel of Keras 2 keeps the variance of a sample (n - 1), Keras 3 that of the batch (n); nor do both
    # round alike, and the least difference may take an activation to another of its 256 values.
    tf_keras.layers.BatchNormalization._fused_can_be_used = lambda self: False
    results = {}
    for name, optimizer, rate in runs:
        model = quantized_models.build(tf_keras, name)
        prefix = f"{name}/"
        own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        quantized_models.set_weights(model, own)
        quantized = tfmot.quantization.keras.quantize_model(model)
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=name in quantized_models.LOGITS)
        quantized.compile(getattr(tf_keras.optimizers, optimizer)(rate), loss)
        results |= {f"{name}/{optimizer}/{key}": value for key, value in quantized_models.train(quantized).items()}
    return results
