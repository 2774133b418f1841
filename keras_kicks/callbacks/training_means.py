"""Counting batches, and means of training metrics between two checks."""

import keras


class TrainingMeans:
    """Counts the batches of `fit`, and makes means of any stretch of them out of Keras's running means of an epoch.

    Args:
        names: Metrics of training to keep; those of validation among them are left alone.
    """

    def __init__(self, names):
        self._names = [name for name in names if not name.startswith("val_")]
        self._before = self._in_epoch = 0
        # Sum over the batches since the last check, and their number; what was seen of the epoch.
        self._sums, self._count = dict.fromkeys(self._names, 0.0), 0
        self._seen, self._seen_count = {}, 0

    @property
    def steps(self):
        """Batches until now."""
        return self._before + self._in_epoch

    def begin_epoch(self, callback):
        """Begin an epoch of the `fit` that has a callback."""
        self._model, self._length = callback.model, (callback.params or {}).get("steps")
        self._execution = self._model.steps_per_execution
        self._in_epoch, self._seen, self._seen_count = 0, dict.fromkeys(self._names, 0.0), 0
        self._updates = _updates(self._model)

    def begin_batch(self, batch):
        """Count a batch that begins."""
        self._begun = batch

    def end_batch(self, batch, logs):
        """Take the running means after a batch."""
        self._in_epoch = self._within(batch + 1)
        self._take(logs)

    def end_epoch(self, logs):
        """Take the means of an epoch, and count it."""
        self._in_epoch = self._within(self._begun + self._execution)
        if self._length is None and self._execution > 1 and not self._model.optimizer.gradient_accumulation_steps:
            # Where the data end within an execution, only the optimizer knows how many there were.
            moved = _updates(self._model) - self._updates
            self._in_epoch = min(self._in_epoch, moved) if moved > 0 else self._in_epoch
        self._take(logs)
        self._before, self._in_epoch = self.steps, 0

    def passes(self, epoch):
        """Return the passes over the data, in the midst of an epoch; None if their length is unknown."""
        return None if self._length is None else epoch + self._in_epoch / self._length

    def read(self):
        """Return the means since the last call."""
        means = {name: total / self._count for name, total in self._sums.items() if self._count and total is not None}
        self._sums, self._count = dict.fromkeys(self._names, 0.0), 0
        return means

    def state(self):
        """Return what `resume` needs at the end of an epoch."""
        return [self._before, dict(self._sums), self._count]

    def resume(self, state):
        """Go on after an epoch."""
        before, sums, count = state
        self._before, self._sums, self._count = before, dict(sums), count

    def _within(self, batches):
        return batches if self._length is None else min(batches, self._length)

    def _take(self, logs):
        logs = logs or {}
        new = self._in_epoch - self._seen_count
        if new <= 0:
            return
        for name in self._names:
            if name not in logs or self._sums[name] is None:
                self._sums[name] = None
                continue
            total = float(logs[name]) * self._in_epoch
            self._sums[name] += total - self._seen[name]
            self._seen[name] = total
        self._seen_count, self._count = self._in_epoch, self._count + new


def _updates(model):
    iterations = getattr(model.optimizer, "iterations", None)
    return 0 if iterations is None else int(keras.ops.convert_to_numpy(iterations))
