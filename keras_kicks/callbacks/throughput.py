"""How fast an epoch trains."""

import time

import keras

# Counts in float32 are exact below.
EXACT = 2**24


class Throughput:
    """Measures the training of one epoch, without validation and without what callbacks do at its end.

    Args:
        model: A compiled model.
        steps: Batches in an epoch, or None where that is unknown.
    """

    def __init__(self, model, steps=None):
        self._model = model
        self._steps = steps
        self._batches = 0
        self._result = None
        self._examples = _examples(model)
        self._updates = _updates(model)
        self._begin = self._latest = time.perf_counter()

    def batch_end(self, batch):
        """Note that the batch of this index, counted from 0, is done."""
        self._batches = batch + 1
        self._latest = time.perf_counter()
        if self._steps is not None and self._batches >= self._steps:
            # Now, before other callbacks have their turn at the end of the epoch.
            if hasattr(self._model, "jax_state_sync"):
                self._model.jax_state_sync()
            self.read()

    def read(self):
        """Return the speed, once the last batch is done; the first call stops the clock.

        The first call must precede the reset of the metrics for validation, since they count the examples.

        Returns:
            Dict of floats: `steps_per_second`, and `examples_per_second` where Keras's own training step counts them.
        """
        if self._result is None:
            waiting = time.perf_counter()
            if keras.backend.backend() != "tensorflow":
                # There a whole epoch may still be in the queue, and what others waited for is part of it.
                self._latest = waiting
            # Reading them waits for the device.
            updates, examples = _updates(self._model), _examples(self._model)
            seconds = self._latest - self._begin + time.perf_counter() - waiting
            self._result = {}
            if self._batches:
                self._result["steps_per_second"] = self._steps_done(updates) / seconds
                if examples is not None and self._examples is not None and self._examples < examples < EXACT:
                    self._result["examples_per_second"] = (examples - self._examples) / seconds
        return self._result

    def _steps_done(self, updates):
        """Return the number of batches.

        Where the data end within steps_per_execution, Keras counts all of them. The optimizer then knows better, but
        not if it accumulates gradients or is not used; and alone it may count one after the end of the data.
        """
        moved = updates - self._updates
        accumulates = getattr(self._model.optimizer, "gradient_accumulation_steps", None)
        if self._model.steps_per_execution > 1 and moved > 0 and not accumulates:
            return min(moved, self._batches)
        return self._batches


def _updates(model):
    iterations = getattr(model.optimizer, "iterations", None)
    return 0 if iterations is None else int(keras.ops.convert_to_numpy(iterations))


def _examples(model):
    """Return the number of examples since the metrics were reset, or None where that is unknown.

    Keras's own training step weights the mean of the loss by the examples of a batch, whatever weights these have.
    Other steps weight it as they like.
    """
    known = (
        getattr(model.train_step, "__func__", None) is keras.Model.train_step
        and type(model).metrics is keras.Model.metrics
    )
    loss = model.metrics[0] if known and model.metrics else None
    if not isinstance(loss, keras.metrics.Mean) or loss.name != "loss" or loss.dtype not in ("float32", "float64"):
        return None
    return float(keras.ops.convert_to_numpy(loss.count))
