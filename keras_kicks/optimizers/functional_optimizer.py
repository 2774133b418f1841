"""An optimizer whose step is a pure function, and the only file that overrides private parts of Keras's optimizers.

Keras offers `update_step` for one variable. What looks at all gradients at once, and what has to happen after the
replicas' gradients were summed, has no public place.
"""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.ops.cluster import cluster
from keras_kicks.ops.gradients import no_gradients
from keras_kicks.ops.replicas import assign_all, sum_replicas
from keras_kicks.optimizers.blocks import blocks_of


class FunctionalOptimizer(keras.optimizers.Optimizer):
    """Base class; a subclass has `new_state` and `step`.

    The gradients of all replicas are summed first, so that whatever the step does to them, N replicas do what one
    device does with the whole batch. Accumulation, clipping, weight decay and averages are those of the arguments of
    `keras.optimizers.Optimizer`. A step is computed in float32 or wider, also for narrower variables; where Keras does
    not compile the training step, it is compiled by itself.
    """

    def __init__(self, learning_rate, **kwargs):
        super().__init__(checked_rate(type(self).__name__, learning_rate), **kwargs)

    # Whether it sums the gradients of the replicas, and a function of gradients and variables that comes after that and
    # after accumulation: an optimizer around this one sets them.
    sums = True
    hook = None
    # Whether `step` treats elements alike, wherever they are, so that small variables may be laid out in one vector.
    elementwise = False
    # Whether `step` may be compiled by itself.
    compiles = True

    def new_state(self, blocks, variables):
        """Create what is remembered: a list of dicts, of lists over the blocks or of single variables."""
        raise NotImplementedError

    def step(self, gradients, values, state, number, learning_rate, blocks):
        """Return the new values and the new state; all lists are over the blocks."""
        raise NotImplementedError

    def build(self, variables):
        """Create the variables of the optimizer."""
        variables = list(variables)
        if self.built:
            self._expect_known(variables)
            return
        super().build(variables)
        blocks = blocks_of(variables, self.elementwise)
        self._memory = _Memory(blocks, self.new_state(blocks, variables))

    def apply(self, grads, trainable_variables=None):
        """Update the variables.

        Args:
            grads: Gradients by the variables, None where there is none.
            trainable_variables: The variables; by default those the optimizer was built on.
        """
        if self.built and trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            self._expect_known(trainable_variables)
        with no_gradients():
            super().apply(grads, trainable_variables)

    def _expect_known(self, variables):
        unknown = [v.path for v in variables if self._var_key(v) not in self._trainable_variables_indices]
        rule, remedy = "the variables that it was built on", "Make a new optimizer for other variables."
        expect(not unknown, type(self).__name__, rule, remedy, variables=unknown)

    def _backend_apply_gradients(self, grads, trainable_variables):
        places = tuple(self._get_variable_index(v) for v in trainable_variables)
        variables = [self._trainable_variables[place] for place in places]
        summed = sum_replicas(grads) if self.sums else grads
        gradients = [dense(g, v) for g, v in zip(summed, variables, strict=True)]
        learning_rate = ops.cast(read(self.learning_rate), "float32")
        number = ops.cast(read(self.iterations) + 1, "float32")
        remembered = keras.tree.flatten(self._state_of(self._present(places)))
        targets = [*variables, *remembered]
        now = [read(v) for v in targets]

        updates, steps = is_update(self), self.gradient_accumulation_steps
        if updates is not None:
            accumulators = [self._accumulated_gradients[place] for place in places]
            sums = [g + read(a) for g, a in zip(gradients, accumulators, strict=True)]
            gradients = [g / steps for g in sums]
        if self.hook is not None:
            gradients = self.hook(gradients, variables)  # Not in a branch: it assigns what it remembers.

        def update():
            return self._update(places, number, learning_rate, gradients, now[: len(places)], now[len(places) :])

        if updates is None:
            new = update()
        else:
            new = ops.cond(updates, lambda: tuple(update()), lambda: tuple(now))
            targets += accumulators
            new = [*new, *(ops.where(updates, ops.zeros_like(g), g) for g in sums)]
        assign_all(targets, new)
        if self.use_ema:
            self._average(updates)

    def _update(self, places, number, learning_rate, gradients, values, state):
        """Return the new values of the variables in these places, and the new state: flat lists."""
        if self.clipnorm:
            gradients = self._clip_gradients(gradients)  # By variable; the other rules are part of the computation.
        blocks = self._present(places)
        gradients, values = dict(zip(places, gradients, strict=True)), dict(zip(places, values, strict=True))
        packed = [block.pack(tensors) for tensors in (gradients, values) for block in blocks]
        new = self._computation(places)(number, learning_rate, *packed, *state)
        by_place = {}
        for block, tensor in zip(blocks, new[: len(blocks)], strict=True):
            by_place.update(block.unpack(tensor))
        variables = [self._trainable_variables[place] for place in places]
        values = [ops.cast(by_place[place], v.dtype) for place, v in zip(places, variables, strict=True)]
        return [*values, *new[len(blocks) :]]

    def _average(self, updates):
        """Update the running averages of all variables, and put them into place where it is time."""
        pairs = zip(self._trainable_variables, self._model_variables_moving_average, strict=True)
        variables, averages = zip(*((v, a) for v, a in pairs if a is not None), strict=True)
        iterations = read(self.iterations)
        momentum = ops.where(ops.equal(iterations, 0), 0.0, self.ema_momentum)
        if updates is not None:
            momentum = ops.where(updates, momentum, 1.0)
        values, targets, new = [read(v) for v in variables], list(averages), []
        for value, average in zip(values, averages, strict=True):
            share = ops.cast(momentum, value.dtype)
            new.append(share * read(average) + (1 - share) * value)
        if self.ema_overwrite_frequency:
            time = ops.equal((iterations + 1) % self.ema_overwrite_frequency, 0)
            if updates is not None:
                time = ops.logical_and(time, updates)
            targets += variables
            new += [ops.where(time, average, value) for average, value in zip(new, values, strict=True)]
        assign_all(targets, new)

    def _present(self, places):
        """Return the blocks that any of these places is in."""
        return [block for block in self._memory.blocks if set(block.places) & set(places)]

    def _state_of(self, blocks):
        """What is remembered for these blocks."""
        chosen = [self._memory.blocks.index(block) for block in blocks]
        return [
            {name: [part[i] for i in chosen] if isinstance(part, list) else part for name, part in sorted(link.items())}
            for link in self._memory.state
        ]

    def _computation(self, places):
        """Return the pure function for the variables in these places, compiled by itself where that pays."""
        if places not in self._memory.computations:
            pure = self._pure(places)
            self._memory.computations[places] = cluster(pure, key=_shapes) if self.compiles else pure
        return self._memory.computations[places]

    def _pure(self, places):
        blocks = self._present(places)
        count, structure = len(blocks), self._state_of(blocks)
        decays = [self._use_weight_decay(v) for v in self._trainable_variables]
        decays = [block.spread([float(d) for d in decays]) for block in blocks]
        # Of several variables side by side, one without a gradient stays as it is.
        have = [block.spread([place in places for place in range(len(self._trainable_variables))]) for block in blocks]

        def kept(i, new, old):
            return new if have[i] is True else ops.where(ops.convert_to_tensor(have[i]), new, old)

        def compute(number, learning_rate, *tensors):
            gradients, old, state = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
            state = keras.tree.pack_sequence_as(structure, list(state))
            gradients = list(gradients) if self.clipnorm else self._clip_gradients(list(gradients))
            values = list(old)
            if self.weight_decay is not None:
                values = [
                    v - v * ops.cast(self.weight_decay * learning_rate, v.dtype) * ops.cast(decay, v.dtype)
                    for v, decay in zip(values, decays, strict=True)
                ]
            new, new_state = self.step(gradients, values, state, number, learning_rate, blocks)
            new = [kept(i, x, old[i]) for i, x in enumerate(new)]
            for before, after in zip(state, new_state, strict=True):
                for name, part in after.items():
                    if isinstance(part, list):
                        after[name] = [kept(i, x, before[name][i]) for i, x in enumerate(part)]
            return (*new, *keras.tree.flatten(new_state))

        return compute


def leave_summed(optimizer):
    """Make an optimizer take gradients for the sums over all replicas."""
    optimizer.sums = False
    if not isinstance(optimizer, FunctionalOptimizer):
        optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


def hook_gradients(optimizer, hook):
    """Make an optimizer pass its gradients through a function, after accumulation and before everything else.

    Args:
        optimizer: A Keras optimizer.
        hook: Function of the dense gradients and their variables that returns the gradients.
    """
    if isinstance(optimizer, FunctionalOptimizer):
        optimizer.hook = hook
        return
    apply, clip, current = optimizer._backend_apply_gradients, optimizer._clip_gradients, []

    def apply_known(grads, trainable_variables):
        current[:] = trainable_variables
        return apply(grads, trainable_variables)

    def clip_hooked(grads):
        return clip(hook([dense(g, v) for g, v in zip(grads, current, strict=True)], list(current)))

    optimizer._backend_apply_gradients, optimizer._clip_gradients = apply_known, clip_hooked


def is_update(optimizer):
    """Return whether a step that is being made updates the variables, or only adds to accumulated gradients."""
    steps = optimizer.gradient_accumulation_steps
    return None if not steps else ops.equal((read(optimizer._iterations) + 1) % steps, 0)


def steps_to_update(optimizer, ahead=0):
    """Return how many steps only add to accumulated gradients before the next one that updates the variables.

    Args:
        optimizer: A Keras optimizer; with others around it, what the innermost does counts.
        ahead: Steps from now on that are not looked at.
    """
    while (inner := getattr(optimizer, "inner_optimizer", None) or getattr(optimizer, "optimizer", None)) is not None:
        optimizer = inner
    steps = optimizer.gradient_accumulation_steps or 1
    done = int(ops.convert_to_numpy(optimizer._iterations)) if steps > 1 and optimizer.built else 0
    return (steps - 1 - done - ahead) % steps


class _Memory:
    """What would be wrapped if it was an attribute: Keras and TensorFlow track lists and dicts."""

    def __init__(self, blocks, state):
        self.blocks = blocks
        self.state = state
        self.computations = {}


def _shapes(*tensors):
    return tuple(tuple(x.shape) for x in tensors)


def checked_rate(owner, learning_rate):
    """Return a learning rate that is a positive float, a schedule or a function."""
    if callable(learning_rate) or isinstance(learning_rate, dict):
        return learning_rate
    expect_number(owner, "Pass a number, a schedule or a function.", learning_rate=learning_rate)
    expect(learning_rate > 0, owner, "learning_rate > 0", learning_rate=learning_rate)
    return float(learning_rate)


def read(x):
    """Return the value of a variable as a tensor; a tensor as it is."""
    value = x.value if isinstance(x, keras.Variable) else x
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(value)
    return value


def snapshot(x):
    """Return the value of a variable as it is now; on torch the value itself changes with the variable."""
    value = read(x)
    return value.clone() if keras.backend.backend() == "torch" else value


def dense(gradient, variable):
    """Return a gradient as a tensor, in which the rows that a sparse one holds twice are summed."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(gradient, tf.IndexedSlices):
            gradient = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
            return tf.ensure_shape(gradient, variable.shape)
    return ops.convert_to_tensor(gradient)
