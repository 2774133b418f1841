"""The variables of several models in one layer, and what runs all of the models in one graph."""

import inspect
import json

import keras
from keras import layers, ops

from keras_kicks.models.cache_keys import architecture
from keras_kicks.models.other_values import other_values
from keras_kicks.ops.keras_mask import get_mask, set_mask

# TensorFlow's vectorized map takes these as they are; it has no rule for random numbers, and none for convolutions
# whose kernels differ.
_VECTORIZED = frozenset(
    {
        *(layers.InputLayer, layers.Dense, layers.EinsumDense, layers.Embedding, layers.Masking),
        *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU, layers.Softmax),
        *(layers.BatchNormalization, layers.LayerNormalization, layers.UnitNormalization, layers.Normalization),
        *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.Identity, layers.Rescaling),
        *(layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Concatenate),
        *(layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D),
    }
)


# What it says of an operation without a rule: that of a loss, a regularizer or a constraint of one's own.
_NO_RULE = "No pfor vectorization defined"


class _Models:
    """Holds models out of Keras's sight: their variables are places for values, not weights of the layer."""

    def __init__(self, models):
        self.each = models


class Members(layers.Layer):
    """Holds the variables of models, and runs all models at once.

    Args:
        models: Built models, of which the structure and the values are taken.
        stacked: Whether members share variables, with an axis for the members in front; for models that are alike.
    """

    def __init__(self, models, stacked, **kwargs):
        super().__init__(dtype=models[0].dtype_policy, **kwargs)
        self.count = len(models)
        self.stacked = stacked
        same = alike(models)
        self._models = _Models([models[0]] * self.count if same else models)
        self._vectorized = same and vectorizes(models[0])
        trainable = [model.trainable_variables for model in models]
        frozen = [model.non_trainable_variables for model in models]
        self._trained, self._states = self._add(trainable, True), self._add(frozen, False)
        self.built = True

    def _add(self, columns, trainable):
        """Make variables for those of the models: one for all members of each, or a list of one for each member."""
        if self.stacked:
            return [self._add_one(list(row), trainable) for row in zip(*columns, strict=True)]
        return [[self._add_one([variable], trainable) for variable in column] for column in columns]

    def _add_one(self, variables, trainable):
        values = [ops.convert_to_numpy(variable) for variable in variables]
        first = variables[0]
        value = values[0] if not self.stacked else ops.convert_to_numpy(ops.stack(values))
        constraint = getattr(first, "constraint", None)
        floating = keras.backend.is_float_dtype(first.dtype)
        return self.add_weight(
            shape=value.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(value, dtype=dtype),
            dtype=first.dtype,
            trainable=trainable,
            # Statistics of replicas are averaged; random states are the same in all of them.
            aggregation="mean" if floating else "only_first_replica",
            constraint=_EachMember(constraint) if constraint is not None and self.stacked else constraint,
            autocast=getattr(first, "_autocast", True),
            name=first.path.replace("/", "_"),
        )

    def values(self, member):
        """Return the trainable and the other values of a member."""
        if self.stacked:
            return [v.value[member] for v in self._trained], [v.value[member] for v in self._states]
        return [v.value for v in self._trained[member]], [v.value for v in self._states[member]]

    def model(self, member):
        """Return the model that a member is made like; its own values are of no matter."""
        return self._models.each[member]

    def run(self, x, training=False, loss=None, extra=None, jit_compile=False, tracked=None):
        """Run all members.

        Args:
            x: Inputs, which all members see.
            training: As in a call of a model.
            loss: None, or a function of the outputs of a member, what it adds to its loss, and its part of `extra`.
            extra: None, or a tensor with a first axis for the members.
            jit_compile: Whether XLA compiles this. Beside a vectorized map it takes all inputs and weights for
                constants in a step that counts the optimizer's iterations, and would compile each step anew.
            tracked: None, or a function that returns the variables that the loss may add to, as those of metrics.

        Returns:
            `Ran`.
        """
        notes = []

        def one(model, trained, states, extra):
            variables = [*model.trainable_variables, *model.non_trainable_variables]
            options = {"collect_losses": True, "initialize_variables": False}
            with other_values(model, variables, [*trained, *states], **options) as scope:
                y = model(x, training=training) if _takes_training(model) else model(x)
                penalties = list(model.losses)
            after = [scope.get_current_value(v) for v in model.non_trainable_variables]
            changed = [i for i, (new, old) in enumerate(zip(after, states, strict=True)) if new is not old]
            outputs = keras.tree.flatten(y)
            masks = {i: get_mask(output) for i, output in enumerate(outputs)}
            masks = {i: mask for i, mask in masks.items() if mask is not None}
            notes.append({"structure": y, "changed": changed, "masked": list(masks)})
            found = {"outputs": outputs, "states": [after[i] for i in changed], "masks": list(masks.values())}
            if loss is not None:
                # A vectorized map can keep nothing: what is added to metrics goes out of it.
                with keras.StatelessScope() as scope:
                    found["loss"] = [loss(y, penalties, extra)]
                    # Asked for now, since the first loss makes its metrics.
                    counted = [(v, scope.get_current_value(v)) for v in (tracked() if tracked else ())]
                counted = [(v, value) for v, value in counted if value is not None]
                notes[-1]["tracked"] = [v for v, _ in counted]
                found["tracked"] = [value - v.value for v, value in counted]
            return found

        if self._can_vectorize() and not jit_compile:
            try:
                return Ran(self, notes, self._vectorized_map(one, extra))
            except ValueError as error:
                if _NO_RULE not in str(error):
                    raise
                self._vectorized = False
                notes.clear()
        return Ran(self, notes, self._side_by_side(one, extra))

    def _can_vectorize(self):
        import tensorflow as tf

        # Called eagerly it would make a graph each time.
        return self._vectorized and not tf.executing_eagerly()

    def _vectorized_map(self, one, extra):
        import tensorflow as tf

        def stacked(variables):
            if self.stacked:
                return [v.value for v in variables]
            return [ops.stack([v.value for v in row]) for row in zip(*variables, strict=True)]

        model = self.model(0)
        parts = {"trained": stacked(self._trained), "states": stacked(self._states), "member": ops.arange(self.count)}
        if extra is not None:
            parts["extra"] = extra

        def body(parts):
            return one(model, parts["trained"], parts["states"], parts.get("extra"))

        return tf.vectorized_map(body, parts, fallback_to_while_loop=False)

    def _side_by_side(self, one, extra):
        def by_member(variables):
            if not self.stacked:
                return [[v.value for v in column] for column in variables]
            # Unstacked at once: the gradient of each slice would be as large as all of them.
            rows = [ops.unstack(v.value, self.count) for v in variables]
            return [[row[member] for row in rows] for member in range(self.count)]

        trained, states = by_member(self._trained), by_member(self._states)
        extras = [None] * self.count if extra is None else ops.unstack(extra, self.count)
        found = [one(self.model(m), trained[m], states[m], extras[m]) for m in range(self.count)]
        columns = {} if self.stacked else {"states": [part.pop("states") for part in found]}
        return columns | {
            name: [ops.stack(list(row)) for row in zip(*(part[name] for part in found), strict=True)]
            for name in found[0]
        }

    def keep(self, states, changed):
        """Let changed states (statistics, those of random numbers) take effect.

        Args:
            states: List of tensors for all members, or of lists for each of them.
            changed: Which states they are, for each time that a member was run.
        """
        if self.stacked:
            for i, value in zip(changed[0], states, strict=True):
                self._states[i].assign(value)
            return
        if len(changed) == 1 < self.count:
            rows = [ops.unstack(value, self.count) for value in states]
            changed, states = changed * self.count, [[row[member] for row in rows] for member in range(self.count)]
        for variables, column, indices in zip(self._states, states, changed, strict=True):
            for i, value in zip(indices, column, strict=True):
                variables[i].assign(value)


class Ran:
    """What came out of running the members.

    Attributes:
        losses: Tensor of the losses of the members, or None.
        tracked: List of the variables that the loss added to, with what the members add on average.
    """

    def __init__(self, members, notes, found):
        self._members, self._notes, self._found = members, notes, found
        self.losses = found["loss"][0] if "loss" in found else None
        added = [ops.mean(each, axis=0) for each in found.get("tracked", [])]
        self.tracked = list(zip(notes[0].get("tracked", []), added, strict=True))

    def keep_states(self):
        """Let the changed states take effect."""
        self._members.keep(self._found["states"], [note["changed"] for note in self._notes])

    def map(self, function):
        """Return a function of each output, of shape (members, samples, ...), in their structure and with their mask.

        The mask is that of the first member: masks say where the data end.
        """
        outputs = [function(output) for output in self._found["outputs"]]
        for i, mask in zip(self._notes[0]["masked"], self._found["masks"], strict=True):
            set_mask(outputs[i], mask[0])
        return keras.tree.pack_sequence_as(self._notes[0]["structure"], outputs)


def alike(models):
    """Return whether models are the same but for the values of their variables and their seeds."""
    texts = {json.dumps(_without_seeds(json.loads(architecture(m))), sort_keys=True) for m in models if _has_config(m)}
    shapes = {
        tuple((tuple(v.shape), v.dtype, v.trainable) for v in [*m.trainable_variables, *m.non_trainable_variables])
        for m in models
    }
    return len(models) == 1 or (len(texts) == len(shapes) == 1 and all(map(_has_config, models)))


def vectorizes(model):
    """Return whether a model is built of layers that TensorFlow's vectorized map has rules for."""
    if not isinstance(model, keras.Sequential) and type(model) is not keras.Model and not _is_functional(model):
        return False
    operations = model.layers if isinstance(model, keras.Sequential) else model.operations
    return all(type(part) in _VECTORIZED or (isinstance(part, keras.Model) and vectorizes(part)) for part in operations)


def _is_functional(model):
    return type(model).__name__ == "Functional" and type(model).__module__.startswith("keras.")


def _has_config(model):
    try:
        return architecture(model).startswith("{")
    except (NotImplementedError, TypeError, ValueError):
        return False


def _without_seeds(config):
    """Return a configuration without seeds: what random states a model has are variables of it."""
    if isinstance(config, dict):
        return {key: _without_seeds(value) for key, value in config.items() if key != "seed"}
    return [_without_seeds(value) for value in config] if isinstance(config, list) else config


def _takes_training(model):
    return "training" in inspect.signature(model.call).parameters


class _EachMember(keras.constraints.Constraint):
    """A constraint for each row of a stacked variable."""

    def __init__(self, constraint):
        self.constraint = constraint

    def __call__(self, w):
        return ops.stack([self.constraint(row) for row in ops.unstack(w, w.shape[0])])
