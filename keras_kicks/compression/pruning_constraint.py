"""The constraint by which a kernel stays pruned."""

import keras
from keras import ops

from keras_kicks.compression._tfmot import schedule_config, schedule_from_config, smallest
from keras_kicks.compression.keras_layers import applied_variables
from keras_kicks.ops.cluster import cluster


@keras.saving.register_keras_serializable(package="keras_kicks")
class PruningConstraint(keras.layers.Layer, keras.constraints.Constraint):
    """Sets the smallest weights of one or more kernels to zero after each training step.

    Optimizers apply the constraint of a variable after its update. So this needs no wrapper and no callback, works
    with any model, any `train_step`, and is saved with the layer whose constraint it is. It is a layer for its masks
    to be saved and restored with those of the model. Masks, thresholds and the number of the step are those of TFMOT,
    which prunes at the begin of the next step what is pruned here at the end of this one.

    Args:
        pruning_schedule: Schedule of TFMOT, or None for masks that change by `update` alone.
        block_size: Rows and columns of a block of weights that are pruned together.
        block_pooling_type: "AVG" or "MAX": what stands for the weights of a block.
        sparsity_m_by_n: (m, n): m zeros in every n consecutive inputs, from the first step on; or None.
        scope: "layer": each kernel has a threshold of its own; "global": all kernels that an optimizer trains by
            this schedule have one.
        constraint: The constraint that the kernel had before. It sees the kernel before and after it is pruned, so
            that both hold.
        kernels: Name and shape of each kernel, as a loaded model knows them; `cover` adds others.
        **kwargs: Base layer arguments.
    """

    def __init__(
        self,
        pruning_schedule=None,
        block_size=(1, 1),
        block_pooling_type="AVG",
        sparsity_m_by_n=None,
        scope="layer",
        constraint=None,
        kernels=(),
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        self.pruning_schedule = schedule_from_config(pruning_schedule)
        self.block_size = tuple(block_size)
        self.block_pooling_type = block_pooling_type
        self.sparsity_m_by_n = None if sparsity_m_by_n is None else tuple(sparsity_m_by_n)
        self.scope = scope
        self.constraint = keras.constraints.get(constraint)
        self.kernels = []
        self.masks = []
        self.thresholds = []
        self.steps = []
        # The step for which a threshold of all kernels is known; kept by the first of them.
        self.known_step = self._local("zeros", (), "int64", "known_step") if scope == "global" else None
        self._bound = {}
        for kernel in kernels:
            self._add_state(**kernel)
        self.built = True

    def cover(self, kernel):
        """Add a kernel that is to be pruned."""
        self._bound[id(kernel)] = len(self.kernels)
        self._add_state(_name(kernel), kernel.shape)

    def _add_state(self, name, shape):
        index = len(self.kernels)
        self.kernels.append({"name": name, "shape": [int(length) for length in shape]})
        self.masks.append(self._local("ones", shape, "bool", f"mask{index}"))
        self.thresholds.append(self._local("zeros", (), "float64", f"threshold{index}"))
        # The number of the next step; TFMOT counts from 1.
        self.steps.append(self._local("ones", (), "int64", f"step{index}"))

    def _local(self, initializer, shape, dtype, name):
        # Not aggregated: replicas see the same weights and make the same masks, each for itself. To agree on a variable
        # is not possible within a condition.
        return keras.Variable(initializer, shape, dtype, trainable=False, aggregation="none", name=name)

    def index(self, kernel):
        """Return the index of a kernel: of a loaded model's, the first of its name and shape that no other has."""
        if id(kernel) not in self._bound:
            taken = set(self._bound.values())
            free = [i for i, k in enumerate(self.kernels) if i not in taken and k["shape"] == list(kernel.shape)]
            named = [i for i in free if self.kernels[i]["name"] == _name(kernel)]
            if not free:
                raise RuntimeError(
                    f"PruningConstraint: expected a kernel that was prepared; got {kernel.path} of shape "
                    f"{tuple(kernel.shape)}. Call keras_kicks.compression.prune_low_magnitude(model, ...) again."
                )
            self._bound[id(kernel)] = (named or free)[0]
        return self._bound[id(kernel)]

    def __call__(self, kernel):
        """Return the values of a kernel after a training step, pruned."""
        index = self.index(kernel)
        values = self._constrained(kernel)
        if self.pruning_schedule is not None:
            self.steps[index].assign(self.steps[index].value + 1)
            self._follow_schedule(index, values, applied_variables)
        return self._pruned(index, values)

    def begin(self, kernel, kernels):
        """Prune before the first step, if the schedule begins with it; `kernels` are all that share a threshold."""
        index, values = self.index(kernel), kernel.value
        self._follow_schedule(index, values, lambda: kernels)
        kernel.assign(self._pruned(index, values))

    def update(self, kernel, threshold):
        """Prune what is below a threshold now; what is zero stays so."""
        index, values = self.index(kernel), kernel.value
        threshold, mask = _cut(values, threshold)
        self._remember(index, threshold, ops.logical_and(mask, values != 0))
        kernel.assign(self._pruned(index, values))

    def remask(self, kernel):
        """Set the pruned weights of a kernel to zero again."""
        kernel.assign(self._masked(self.index(kernel), kernel.value))

    def _constrained(self, values):
        if self.constraint is not None:
            return ops.convert_to_tensor(self.constraint(values))
        return values.value if isinstance(values, keras.Variable) else values

    def _pruned(self, index, values):
        values = self._masked(index, values)
        if self.constraint is None:
            return values
        # Masked at last, for a constraint that makes something of nothing.
        return self._masked(index, self._constrained(values))

    def _masked(self, index, values):
        import tensorflow as tf

        return _kept(tf.convert_to_tensor(self.masks[index].value), tf.convert_to_tensor(values))

    def _follow_schedule(self, index, values, find_kernels):
        """Choose a new mask if the schedule asks for it in the coming step."""
        import tensorflow as tf

        step = tf.convert_to_tensor(self.steps[index].value)
        due = tf.equal(step, 1) if self.sparsity_m_by_n else self.pruning_schedule(step)[0]

        def update():
            sparsity = self.pruning_schedule(step)[1]
            if self.scope == "global":
                found = _cut(values, self._shared_threshold(step, sparsity, find_kernels()))
            else:
                found = self._choose(values, sparsity)
            self._remember(index, *found)
            return tf.constant(True)

        tf.cond(due, update, lambda: tf.constant(False))

    def _shared_threshold(self, step, sparsity, variables):
        """Return the threshold of all kernels; the first of them that is pruned in a step finds it for the others."""
        import tensorflow as tf

        kernels = [variable for variable in variables if self._is_peer(variable.constraint)]
        first = kernels[0].constraint
        threshold = first.thresholds[first.index(kernels[0])]

        def find():
            values = [kernel.constraint._constrained(kernel) for kernel in kernels]
            threshold.assign(ops.cast(global_threshold(values, sparsity), "float64"))
            first.known_step.assign(step)
            return tf.constant(True)

        tf.cond(tf.equal(first.known_step.value, step), lambda: tf.constant(False), find)
        return threshold.value

    def _is_peer(self, other):
        if not isinstance(other, PruningConstraint) or other.scope != "global":
            return False
        return schedule_config(other.pruning_schedule) == schedule_config(self.pruning_schedule)

    def _choose(self, values, sparsity):
        return smallest(values, sparsity, self.block_size, self.block_pooling_type, self.sparsity_m_by_n)

    def _remember(self, index, threshold, mask):
        if not self.sparsity_m_by_n:
            self.thresholds[index].assign(ops.cast(threshold, "float64"))
        self.masks[index].assign(ops.cast(mask, "bool"))

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "pruning_schedule": schedule_config(self.pruning_schedule),
            "block_size": list(self.block_size),
            "block_pooling_type": self.block_pooling_type,
            "sparsity_m_by_n": None if self.sparsity_m_by_n is None else list(self.sparsity_m_by_n),
            "scope": self.scope,
            "constraint": keras.constraints.serialize(self.constraint),
            "kernels": [dict(kernel) for kernel in self.kernels],
        }
        return {**super().get_config(), **config}


def _zeros_elsewhere(mask, values):
    # A zero to broadcast is slower than as many as there are weights; a product would make some of them -0.0.
    return ops.where(mask, values, ops.zeros_like(values))


_kept = cluster(_zeros_elsewhere)


def global_threshold(tensors, sparsity):
    """Return the magnitude that splits the weights of all tensors by a sparsity."""
    dtype = keras.backend.result_type(*(values.dtype for values in tensors))
    return smallest(ops.concatenate([ops.cast(ops.reshape(values, (-1,)), dtype) for values in tensors]), sparsity)[0]


def _cut(values, threshold):
    return threshold, ops.abs(values) >= ops.cast(threshold, values.dtype)


def _name(kernel):
    return "/".join(kernel.path.split("/")[-2:])
