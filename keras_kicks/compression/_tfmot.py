"""The seam to TensorFlow Model Optimization: no other file names it.

TFMOT is written for Keras 2. What it computes on tensors works on the variables of Keras 3 as well; its wrappers,
registries and model transforms do not, and are never loaded for their own sake.
"""

import importlib
import os
import warnings

import keras

from keras_kicks._errors import expect
from keras_kicks.compression.magnitude import cut

_CORE = "tensorflow_model_optimization.python.core."
_LEGACY = "TF_USE_LEGACY_KERAS"


def tfmot(module):
    """Return a module of TFMOT by its path below `tensorflow_model_optimization.python.core`.

    Raises:
        ImportError: TFMOT is not installed.
    """
    import tensorflow as tf

    # To import TFMOT sets this variable, by which tf.keras would become Keras 2 for whoever uses it next, also in
    # child processes. What tf.keras is, is settled by its first use.
    before = os.environ.get(_LEGACY)
    _ = tf.keras.layers  # noqa: TID251
    try:
        with warnings.catch_warnings():
            # What its modules use of Python and NumPy is not the caller's to mend.
            warnings.simplefilter("ignore")
            return importlib.import_module(_CORE + module)
    except ImportError as error:
        raise ImportError(
            "keras_kicks.compression: expected tensorflow-model-optimization to be installed; "
            f'got {type(error).__name__}: {error}. pip install "keras-kicks[compression]"'
        ) from error
    finally:
        if before is None:
            os.environ.pop(_LEGACY, None)
        else:
            os.environ[_LEGACY] = before


def schedules():
    """Return the classes of pruning schedules of TFMOT, by name."""
    module = tfmot("sparsity.keras.pruning_schedule")
    return {name: getattr(module, name) for name in ("ConstantSparsity", "PolynomialDecay")}


def expect_schedule(owner, schedule):
    """Raise unless `schedule` is a pruning schedule of TFMOT, or of a class derived from it, in [0, 1) at its ends."""
    import tensorflow as tf

    base = tfmot("sparsity.keras.pruning_schedule").PruningSchedule
    remedy = "Pass keras_kicks.compression.PolynomialDecay(...) or ConstantSparsity(...)."
    expect(isinstance(schedule, base), owner, "a pruning schedule", remedy, TypeError, pruning_schedule=schedule)
    for step in (1, getattr(schedule, "begin_step", 1), getattr(schedule, "end_step", 1)):
        sparsity = float(schedule(tf.constant(step, "int64"))[1])
        expect(0 <= sparsity < 1, owner, "a schedule with 0 <= sparsity < 1", sparsity=sparsity, step=step)


def smallest(weights, sparsity, block_size=(1, 1), block_pooling_type="AVG", sparsity_m_by_n=None):
    """Return the threshold and the mask, false for the smallest weights, that TFMOT finds for a tensor.

    Where TFMOT sorts all weights to find a threshold, the same one is found in a tenth of the time.

    Args:
        weights: Tensor; of rank 2 for blocks, 2 or 4 for m by n.
        sparsity: Share of weights, or of blocks, to prune; a number or a scalar tensor. Not used for m by n.
        block_size: Rows and columns of a block.
        block_pooling_type: "AVG" or "MAX".
        sparsity_m_by_n: (m, n) or None; for it the threshold is 0.
    """
    import tensorflow as tf

    weights = tf.convert_to_tensor(weights)
    weights = tf.cast(weights, keras.backend.result_type(weights.dtype.name, "float32"))
    block_size = tuple(block_size)
    if block_size == (1, 1) and sparsity_m_by_n is None:
        return cut(weights, sparsity)
    utils = tfmot("sparsity.keras.pruning_utils")
    if sparsity_m_by_n is not None:
        mask = utils.generate_m_by_n_mask(utils.weights_rearrange(weights), tuple(sparsity_m_by_n))
        return tf.zeros((), weights.dtype), utils.m_by_n_sparsity_mask_prepare(mask, weights.shape) > 0
    pooled = utils.factorized_pool(tf.abs(weights), block_size, block_pooling_type, block_size, "SAME")
    # TFMOT squeezes them here, and fails where there is but one row or column of blocks.
    blocks = [-(-length // size) for length, size in zip(weights.shape, block_size, strict=True)]
    threshold, mask = cut(tf.reshape(pooled, blocks), sparsity)
    mask = utils.expand_tensor(tf.cast(mask, weights.dtype), block_size)
    return threshold, mask[: weights.shape[0], : weights.shape[1]] > 0


def schedule_config(schedule):
    """Return a schedule as JSON can hold it."""
    if schedule is None:
        return None
    kind, config = type(schedule), schedule.get_config()
    name = kind.__name__ if kind in schedules().values() else keras.saving.get_registered_name(kind)
    # Those of TFMOT name their class beside the arguments.
    return {"class_name": name, "config": config.get("config", config) if "class_name" in config else config}


def schedule_from_config(config):
    """Return a schedule from what `schedule_config` returned; a schedule as it is.

    Raises:
        ValueError: expected a registered class of schedules.
    """
    if not isinstance(config, dict):
        return config
    name = config["class_name"]
    kind = schedules().get(name) or keras.saving.get_registered_object(name)
    remedy = "Register it with keras.saving.register_keras_serializable before the model is loaded."
    expect(kind is not None, "PruningConstraint", "a registered class of schedules", remedy, class_name=name)
    return kind.from_config(config["config"])
