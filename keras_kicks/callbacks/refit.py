"""Training a new model for a number of steps, on all data."""

import keras

from keras_kicks._errors import expect


class TrainFor(keras.callbacks.Callback):
    """Ends `fit` after a number of batches, or of passes over the data.

    Args:
        owner: Whom to name in errors.
        steps: The batches, or None.
        passes: The passes, also a fraction of one, or None.
    """

    def __init__(self, owner, steps=None, passes=None):
        super().__init__()
        self._owner, self._steps, self._passes = owner, steps, passes
        self._before = self._epochs = 0

    def on_train_batch_end(self, batch, logs=None):
        """Stop if it is time."""
        self._batch = batch + 1
        length = self.params["steps"]
        if self._steps is not None:
            over = self._before + self._batch >= self._steps
        elif length is None:
            remedy = 'Pass by="steps", or steps_per_epoch.'
            whole = self._passes == int(self._passes)
            expect(whole, self._owner, "data of a known length", remedy, passes=self._passes)
            return
        else:
            over = self._epochs + self._batch / length > self._passes - 0.5 / length
        if over:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        """Count the epoch."""
        self._before += self._batch
        self._epochs += 1
        if self._passes is not None and self._epochs >= self._passes:
            self.model.stop_training = True


def refit(owner, build_fn, steps, passes, arguments):
    """Train a new model and return it.

    Args:
        owner: Whom to name in errors.
        build_fn: Function that returns a new, compiled model; or a compiled model, which is made anew from its config.
        steps: Batches to train on, or None.
        passes: Passes over the data instead.
        arguments: What `fit` gets besides.
    """
    if isinstance(build_fn, keras.Model):
        model = type(build_fn).from_config(build_fn.get_config())
        model.compile_from_config(build_fn.get_compile_config())
    else:
        expect(callable(build_fn), owner, "a model, or a function that makes one", error=TypeError, build_fn=build_fn)
        model = build_fn()
        made = isinstance(model, keras.Model)
        expect(made, owner, "a function that returns a model", error=TypeError, returned=type(model).__name__)
    compiled = bool(getattr(model, "compiled", False))
    expect(compiled, owner, "a compiled model", "Call model.compile(...) in build_fn.", compiled=compiled)
    # An execution of several steps would run beyond the last.
    model.steps_per_execution = 1
    callbacks = [TrainFor(owner, steps, passes), *arguments.pop("callbacks", ())]
    # It stops before: no epoch has less than a step.
    epochs = steps if passes is None else int(-(-passes // 1))
    model.fit(**arguments, epochs=epochs, callbacks=callbacks)
    return model
