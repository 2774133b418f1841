"""Early stopping by Prechelt's rules or by patience, at epochs or at steps."""

import collections
import os
import warnings

import keras

from keras_kicks._errors import expect, expect_choice, expect_integer
from keras_kicks.callbacks.quiet_evaluation import evaluate_quietly, expect_data
from keras_kicks.callbacks.refit import refit
from keras_kicks.callbacks.rule_set import RuleSet
from keras_kicks.callbacks.stopping_directory import StoppingDirectory
from keras_kicks.callbacks.stopping_rule import StoppingCheck
from keras_kicks.callbacks.stopping_writer import StoppingWriter
from keras_kicks.callbacks.training_means import TrainingMeans
from keras_kicks.callbacks.training_snapshot import TrainingSnapshot


class EarlyStopping(keras.callbacks.Callback):
    """Stops training by one or several rules, and gives the model the state of its best check.

    The rules are Prechelt's `GL`, `PQ` and `UP` with his `LowProgress`, the `Patience` of Keras, and any other
    `StoppingRule`. They are asked after every epoch, or every `check_freq` steps in the midst of epochs, where the
    model is evaluated on `validation_data` without leaving a trace in metrics, weights or random numbers.

    The best state, by the metric of the first rule, is that of the whole training: weights, statistics, states of
    random layers, and the optimizer with its count of steps. Training that goes on from there is, to the bit, the
    training that had stopped there (with the same order of the data: that is drawn outside of the model).
    `refit` then trains a new model on all data for as long.

    A metric that is NaN or infinite is never the best and counts as worse than any number; a warning says so.

    With a `directory`, the best state is on disk, and what the rules have seen is too until `fit` ends: after an
    interruption, `keras.callbacks.BackupAndRestore` resumes the training and this callback its rules. It must come
    before BackupAndRestore in the list of callbacks. Keras saves no states of random layers: these begin anew then, but
    not in the best state. Under several workers each needs a directory of its own.

    Under `<log_dir>/early_stopping`, over the number of the step: `<rule>/<metric>/...`, what each rule compares with
    its limits, such as `GL_5/val_loss/generalization_loss`; at the end the text `early_stopping`.

    With steps_per_execution=n, checks come after the first execution that reaches a multiple of `check_freq`.

    Args:
        rules: A rule or its name, or a list of these: "patience", "GL", "PQ", "UP", "LowProgress", each with its
            defaults.
        combine: With several rules, stop if "any" or only if "all" of them say so in one check. Between the ends of
            strips a rule says what it said at the last end.
        check_freq: "epoch", or steps between two checks.
        validation_data: What to evaluate, (x, y), (x, y, sample_weight) or a dataset; None for the validation that
            `fit` makes, with check_freq="epoch" alone.
        validation_batch_size: As in `evaluate`, for `validation_data`.
        validation_steps: Likewise; needed where a dataset repeats itself for ever.
        validation_freq: As in `fit`: epochs without validation are no checks. With check_freq="epoch" alone; needed
            where `fit` does not validate the first epoch.
        start_from: Checks at the beginning that are left out.
        restore_best: Whether to keep the state of the best check, and give it to the model when `fit` ends.
        directory: Where to keep that and the state of the rules; None for in memory, without resuming.
        log_dir: Directory of the run for TensorBoard; None to write nothing.
        verbose: 1 to print why it stops and what it restores.

    Attributes:
        reason: Why training was stopped, a sentence; None if the callback did not stop it.
        best: The `StoppingCheck` with the best value of the first rule's metric: epoch, step (the number of batches
            trained on until then), passes over the data, values. None before there is one.
        stopped: The `StoppingCheck` that stopped it, or None.
        checks: All of them.
        rules: The rules.

    Raises:
        ImportError: there is no TensorFlow, with `log_dir`.
        TypeError: `rules` has something that is no rule; a count is no integer; `validation_data` can be read but once.
        ValueError: expected rules of these names; no rule twice; at least one; combine to be "any" or "all"; check_freq
            to be "epoch" or >= 1; validation_data with steps; start_from >= 0; at the first check, metrics of these
            names, which needs validation data; no negative error for `GL`, `PQ` and `LowProgress`.

    Source:
        Prechelt, "Early Stopping - But When?", Neural Networks: Tricks of the Trade, 1998; Goodfellow, Bengio and
        Courville, Deep Learning, 2016, algorithms 7.1 and 7.2.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.callbacks import GL
        >>> def build():
        ...     layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        ...     model = keras.Sequential([keras.Input((1,)), layer])
        ...     model.compile(keras.optimizers.SGD(0.1), "mse")
        ...     return model
        >>> x, y = np.ones((4, 1)), np.full(4, 2.0)
        >>> stopping, others = EarlyStopping(GL(alpha=5)), (x, np.ones(4))
        >>> history = build().fit(x, y, epochs=9, validation_data=others, verbose=0, callbacks=[stopping])
        >>> stopping.best.epoch, stopping.best.step
        (2, 3)
        >>> stopping.reason.partition(":")[0]
        'GL_5 at epoch 4, step 4'
        >>> model = stopping.refit(build, np.ones((8, 1)), np.ones(8), verbose=0)
    """

    def __init__(
        self,
        rules="patience",
        combine="any",
        check_freq="epoch",
        validation_data=None,
        validation_batch_size=None,
        validation_steps=None,
        validation_freq=1,
        start_from=0,
        restore_best=True,
        directory=None,
        log_dir=None,
        verbose=0,
    ):
        super().__init__()
        owner = self._owner = type(self).__name__
        self._rules = RuleSet(owner, rules, combine, start_from)
        self.rules = self._rules.rules
        if check_freq != "epoch":
            expect_integer(owner, 'Pass "epoch" or a number of steps.', check_freq=check_freq)
            expect(check_freq >= 1, owner, 'check_freq to be "epoch" or >= 1', check_freq=check_freq)
            remedy = "A callback does not see the validation data of fit."
            given = validation_data is not None or not any(name.startswith("val_") for name in self._rules.names)
            expect(given, owner, "validation_data, to check within an epoch", remedy, validation_data=None)
        expect_data(owner, "validation_data", validation_data)
        if not isinstance(validation_freq, collections.abc.Container):
            expect_integer(owner, validation_freq=validation_freq)
            expect(validation_freq >= 1, owner, "validation_freq >= 1", validation_freq=validation_freq)
        self.check_freq, self.validation_data, self.validation_freq = check_freq, validation_data, validation_freq
        self._evaluation = {"batch_size": validation_batch_size, "steps": validation_steps}
        self.restore_best, self.verbose = restore_best, verbose
        self._directory = None if directory is None else StoppingDirectory(directory)
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        # Then Keras need not wait for this callback after each batch.
        self.async_safe = check_freq == "epoch"
        self._start()

    @property
    def checks(self):
        """All checks of this training."""
        return self._rules.checks

    @property
    def best(self):
        """The best check."""
        return self.rules[0].best_check

    @property
    def stopped(self):
        """The check that stopped training."""
        return self._rules.stopped

    @property
    def reason(self):
        """Why it did."""
        return self._rules.reason

    def restore(self, model=None):
        """Give a model the state of the best check.

        Args:
            model: A model like the one that was trained, built and compiled; that one by default.

        Raises:
            ValueError: expected a best check, and restore_best=True.
        """
        snapshot = self._snapshot
        if snapshot is None and self._directory is not None and self.best is not None:
            snapshot = self._directory.snapshot(self.best.step)
        remedy = "Pass restore_best=True, and train."
        expect(snapshot is not None, self._owner, "a best state", remedy, best=self.best)
        snapshot.restore(self.model if model is None else model)

    def refit(self, build_fn, x, y=None, by="steps", **arguments):
        """Train a new model on all data, training and validation together, for as long as was best.

        Args:
            build_fn: Function that returns a new, compiled model; or a compiled model, which is made anew from its
                config, with new weights.
            x: All data, as `fit` takes them.
            y: Their labels.
            by: "steps" for as many updates as until the best check, "epochs" for as many passes over the data, which
                are more updates the more data there are.
            **arguments: What else `fit` gets, such as batch_size.

        Returns:
            The new model.

        Raises:
            ValueError: expected a best check; by to be "steps" or "epochs"; data of known length, for the part of an
                epoch; no argument epochs.
        """
        expect_choice(self._owner, ("steps", "epochs"), by=by)
        expect("epochs" not in arguments, self._owner, "no epochs: the best check says how long", arguments=arguments)
        best = self.best
        expect(best is not None, self._owner, "a best check", "Train first.", best=None)
        passes = None
        if by == "epochs":
            passes = best.passes
            expect(passes is not None, self._owner, "training data of a known length", 'Pass by="steps".', passes=None)
        steps = best.step if passes is None else None
        return refit(self._owner, build_fn, steps, passes, {"x": x, "y": y, **arguments})

    def on_train_begin(self, logs=None):
        """Begin anew."""
        self._start()
        if self.log_dir is not None:
            self._writer = StoppingWriter(self._owner, self.log_dir)

    def on_epoch_begin(self, epoch, logs=None):
        """Take up training that was interrupted, when it is known with which epoch it goes on."""
        if not self._began:
            self._began = True
            if self._directory is not None:
                self._resume(epoch)
        self._means.begin_epoch(self)
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Count the batch; Keras may call the end of one at another time."""
        self._means.begin_batch(batch)

    def on_train_batch_end(self, batch, logs=None):
        """Check, if it is time."""
        if self.check_freq == "epoch":
            return
        before = self._means.steps
        self._means.end_batch(batch, logs)
        if self._means.steps // self.check_freq > before // self.check_freq:
            values = {**self._means.read(), **self._evaluate()}
            self._check(StoppingCheck(self._epoch, self._means.steps, self._means.passes(self._epoch), values))

    def on_epoch_end(self, epoch, logs=None):
        """Check, if it is time."""
        self._means.end_epoch(logs)
        self._ends[epoch] = self._means.state()
        time = self.check_freq == "epoch" and _is_validated(epoch, self.validation_freq)
        if time and not self._is_left_out(logs or {}):
            found = self._evaluate()
            values = {**(logs or {}), **found}
            for name, value in found.items():
                logs.setdefault(name, value)
            self._check(StoppingCheck(epoch, self._means.steps, epoch + 1, values))
        self._bests.append(self._best_step)
        self._save()

    def on_train_end(self, logs=None):
        """Restore the best state."""
        text = self.reason or "Not stopped by a rule."
        if self.restore_best and self.best is not None:
            self.restore()
            best, metric = self.best, self.rules[0].monitor
            text += f" The model has its best state again, of {best.place}: {metric} {best.values[metric]:.6g}."
        if self.verbose:
            print(f"{self._owner}: {text}", flush=True)
        if self._writer is not None:
            self._writer.end(text, self._means.steps)
            self._writer = None
        if self._directory is not None:
            self._directory.prune({self._best_step})
            self._directory.end()

    @property
    def _best_step(self):
        return None if self.best is None else self.best.step

    def _start(self):
        self._rules.start()
        self._snapshot = self._writer = None
        self._began = False
        self._means = TrainingMeans(self._rules.names)
        # Means at the end of each epoch; the best steps at the end of the latest: what a resumed training may ask for.
        self._ends, self._bests = {}, collections.deque(maxlen=2)

    def _evaluate(self):
        if self.validation_data is None:
            return {}
        found = evaluate_quietly(self.model, self.validation_data, **self._evaluation)
        return {f"val_{name}": value for name, value in found.items()}

    def _is_left_out(self, logs):
        """Whether `fit`, which has validated before, has not now."""
        needed = any(name.startswith("val_") for name in self._rules.names)
        found = self.validation_data is not None or any(name.startswith("val_") for name in logs)
        return needed and not found and len(self.checks) > 0

    def _check(self, check):
        stop = self._rules.check(check)
        if self._rules.improved and self.restore_best:
            self._snapshot = TrainingSnapshot.of(self.model)
            if self._directory is not None:
                self._directory.keep(self._best_step, self._snapshot)
                self._snapshot = None
        if self._writer is not None and self._rules.counts:
            self._writer.check(self.rules, check.step)
        if self.check_freq != "epoch":
            self._save()
        if stop:
            self.model.stop_training = True

    def _save(self):
        if self._directory is not None:
            self._directory.save({"checks": self.checks, "ends": list(self._ends.items())})
            self._directory.prune({self._best_step, *self._bests})

    def _resume(self, epoch):
        """Show the rules again what they had seen before this epoch."""
        state = self._directory.load()
        ends = {} if state is None else {end: kept for end, kept in state["ends"] if end < epoch}
        if not ends:
            self._directory.prune(())
            self._directory.end()
            return
        if max(ends) != epoch - 1:
            remedy = "Pass this callback before BackupAndRestore."
            warnings.warn(f"{self._owner}: the state of epoch {epoch} was not written. {remedy}", stacklevel=2)
        self._ends = ends
        self._means.resume(ends[max(ends)])
        for check in map(StoppingCheck._make, state["checks"]):
            if check.epoch < epoch and self._rules.check(check):
                self.model.stop_training = True
        self._bests.append(self._best_step)
        if self.restore_best and self._best_step is not None:
            found = self._directory.snapshot(self._best_step) is not None
            expect(found, self._owner, "the best state in directory", "Empty it, to start anew.", step=self._best_step)


def _is_validated(epoch, freq):
    """Whether `fit` validates in an epoch, by its argument validation_freq."""
    return epoch + 1 in freq if isinstance(freq, collections.abc.Container) else (epoch + 1) % freq == 0
