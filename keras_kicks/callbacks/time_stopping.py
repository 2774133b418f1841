"""Ending training when its time is over."""

import collections
import statistics
import time

import keras

from keras_kicks._errors import expect, expect_choice, expect_number

# The steps of which the median tells how long the next will take.
REMEMBERED = 9


class TimeStopping(keras.callbacks.Callback):
    """Stops training when a number of seconds has passed, also in the midst of an epoch.

    With `look_ahead` it stops already if the next step, or the next epoch, would end after that: a step is expected to
    take what the median of the latest took, without the first, which compiles; an epoch, what the latest took. After
    the last step there is still the end of the epoch, with validation and other callbacks: it is expected to take what
    it took in the latest epoch. Without `look_ahead` training stops with the first step, or epoch, that ends late.

    `fit` always makes one step, or epoch. Under several workers their clocks must not decide: they would stop at
    different steps, and wait for each other for ever; let one of them measure how many steps fit into the time.

    Args:
        seconds: The time, > 0.
        check: "batch" to look at the clock after every step (after every execution with steps_per_execution), or
            "epoch".
        look_ahead: Whether to stop before the time is over rather than after.
        total: Whether the time is for all calls of `fit` with this callback together, and not for each.
        clock: Function that returns seconds.
        verbose: 1 to print when it stops.

    Attributes:
        elapsed: Seconds since `fit` began; with `total`, in all calls of it.
        stopped_epoch: The epoch, from 0, in which it stopped; None if it did not.
        stopped_batch: The batches of that epoch until then; None with check="epoch".
        reason: A sentence, or None.

    Raises:
        TypeError: `seconds` is no number, `clock` no function.
        ValueError: expected seconds > 0; check to be "batch" or "epoch".

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> ticks = iter(range(100))
        >>> stopping = TimeStopping(seconds=5, clock=lambda: next(ticks), look_ahead=False)
        >>> history = model.fit(np.ones((8, 1)), np.ones(8), batch_size=1, epochs=9, verbose=0, callbacks=[stopping])
        >>> stopping.stopped_epoch, stopping.stopped_batch
        (0, 4)
    """

    def __init__(self, seconds, check="batch", look_ahead=True, total=False, clock=time.monotonic, verbose=0):
        super().__init__()
        owner = type(self).__name__
        expect_number(owner, seconds=seconds)
        expect(seconds > 0, owner, "seconds > 0", seconds=seconds)
        expect_choice(owner, ("batch", "epoch"), check=check)
        expect(callable(clock), owner, "a function for clock", error=TypeError, clock=clock)
        self.seconds, self.check, self.look_ahead, self.total = seconds, check, look_ahead, total
        self.clock, self.verbose = clock, verbose
        self.elapsed = 0.0
        self.stopped_epoch = self.stopped_batch = self.reason = None
        # Then Keras need not wait for this callback after each batch.
        self.async_safe = check == "epoch"

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self._start = self.clock() - (self.elapsed if self.total else 0.0)
        self.stopped_epoch = self.stopped_batch = self.reason = None
        # How long the latest steps took, the latest epoch, and what comes after its last step.
        self._steps, self._compiled, self._tail = collections.deque(maxlen=REMEMBERED), False, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Begin an epoch."""
        self._epoch, self._batches = epoch, 0
        self._begun = self._latest = self.clock()

    def on_train_batch_end(self, batch, logs=None):
        """Look at the clock."""
        if self.check == "epoch":
            return
        now = self.clock()
        took, self._latest = now - self._latest, now
        if self._compiled:
            self._steps.append(took)
        self._compiled = True
        length = (self.params or {}).get("steps")
        self._batches = batch + 1 if length is None else min(batch + 1, length)
        step = statistics.median(self._steps) if self._steps else 0.0
        self._decide(now, step + self._tail, "step")

    def on_epoch_end(self, epoch, logs=None):
        """Look at the clock."""
        now = self.clock()
        self._tail = now - self._latest
        if self.check == "epoch":
            self._decide(now, now - self._begun, "epoch")
        self.elapsed = now - self._start

    def on_train_end(self, logs=None):
        """Stop the clock."""
        self.elapsed = self.clock() - self._start
        if self.verbose and self.reason:
            print(f"{type(self).__name__}: {self.reason}", flush=True)

    def _decide(self, now, needed, what):
        elapsed = now - self._start
        over = elapsed + needed > self.seconds if self.look_ahead else elapsed >= self.seconds
        if over and self.reason is None:
            self.model.stop_training = True
            self.stopped_epoch = self._epoch
            self.stopped_batch = self._batches if what == "step" else None
            place = f"after {f'step {self._batches} of ' if what == 'step' else ''}epoch {self._epoch + 1}"
            ahead = f", and another {what} takes {needed:.3g} s" if self.look_ahead else ""
            self.reason = f"{elapsed:.3g} s of {self.seconds:g} s are over {place}{ahead}."
