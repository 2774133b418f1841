"""Optimizers made of gradient transforms."""

import inspect

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.optimizers.functional_optimizer import FunctionalOptimizer
from keras_kicks.optimizers.transforms.transform import Step, Transform


@keras.saving.register_keras_serializable(package="keras_kicks")
class Chain(FunctionalOptimizer):
    """An optimizer that passes the gradients through transforms, one after the other.

    With u the result of the last transform,

        w <- w - learning_rate * u

    It is a Keras optimizer: for `compile`, with schedules, weight decay, running averages, gradient accumulation and
    loss scaling, saved with the model. The transforms see the sum of the gradients of all replicas (of
    `tf.distribute`), so that a chain that clips does on N replicas what it does on one device. All of a step is one
    computation, which is compiled by itself on a CPU. Sparse gradients are made dense.

    Args:
        transforms: List of transforms, such as `ClipByGlobalNorm` and `ScaleByAdam`.
        learning_rate: Positive number, schedule, or function of nothing that returns the rate.
        **kwargs: Arguments of `keras.optimizers.Optimizer`: `weight_decay`, `clipnorm`, `global_clipnorm`,
            `clipvalue`, `use_ema`, `ema_momentum`, `ema_overwrite_frequency`, `loss_scale_factor`,
            `gradient_accumulation_steps`, `name`. Clipping comes before the transforms. With accumulation a running
            average is taken of the variables after each update.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: an element of `transforms` is no transform; the learning rate is no number, schedule or function.
        ValueError: expected at least one transform; learning_rate > 0; the variables that it was built on.

    Source:
        The composition is that of optax (DeepMind 2020). Departure: weight decay is an argument of Keras's optimizers
        besides being a transform; the sign and the learning rate are applied last, always.

    Example:
        >>> from keras_kicks.optimizers import ClipByGlobalNorm, ScaleByAdam
        >>> chain = Chain([ClipByGlobalNorm(1.0), ScaleByAdam()], learning_rate=0.01)
        >>> w = keras.Variable([3.0, 4.0])
        >>> chain.apply([keras.ops.convert_to_tensor([30.0, 40.0])], [w])
        >>> [round(float(x), 3) for x in w.numpy()]
        [2.99, 3.99]
        >>> float(chain.state_of(0)["norm"].numpy())
        50.0
    """

    def __init__(self, transforms, learning_rate=0.001, **kwargs):
        owner = type(self).__name__
        transforms = [keras.saving.deserialize_keras_object(t) if isinstance(t, dict) else t for t in transforms]
        expect(len(transforms) > 0, owner, "at least one transform", transforms=transforms)
        for transform in transforms:
            expect(isinstance(transform, Transform), owner, "transforms", error=TypeError, transform=transform)
        super().__init__(learning_rate, **kwargs)
        self.transforms = transforms

    @property
    def elementwise(self):
        """Whether all transforms treat elements alike."""
        return all(transform.elementwise for transform in self.transforms)

    @property
    def compiles(self):
        """Whether all transforms compute the same when they are compiled."""
        return all(transform.compiles for transform in self.transforms)

    def new_state(self, blocks, variables):
        """Create what the transforms remember."""
        return [self._remembered(transform, blocks, variables) for transform in self.transforms]

    def _remembered(self, transform, blocks, variables):
        state = {}
        for number, block in enumerate(blocks):
            for name, (shape, initial) in transform.slots(block.shape).items():
                beside = variables[block.places[0]] if block.single else None
                state.setdefault(name, []).append(self._slot(beside, number, block, name, tuple(shape), initial))
        for name, (shape, initial, dtype) in transform.own().items():
            initializer = keras.initializers.Constant(initial)
            full_name = f"{type(transform).__name__}_{name}"
            state[name] = self.add_variable(tuple(shape), initializer, dtype, name=full_name)
        return state

    def _slot(self, beside, number, block, name, shape, initial):
        """A variable beside those of a block; in float32 at least, or small changes would be lost."""
        initializer = keras.initializers.Constant(initial)
        if beside is not None and shape == tuple(beside.shape) and block.dtype == beside.dtype:
            return self.add_variable_from_reference(beside, name=name, initializer=initializer)
        path = block.path.replace("/", "_") or f"block_{number}"
        return self.add_variable(shape, initializer, block.dtype, name=f"{path}_{name}")

    def step(self, gradients, values, state, number, learning_rate, blocks):
        """Return the new values and the new state."""
        now = Step(number, learning_rate, values, [b.path for b in blocks], [b.places[0] for b in blocks])
        updates, new_state = gradients, []
        for transform, remembered in zip(self.transforms, state, strict=True):
            updates, remembered = transform.update(list(updates), dict(remembered), now)
            new_state.append({name: remembered[name] for name in sorted(remembered)})
        new = [v - ops.cast(learning_rate, v.dtype) * u for v, u in zip(values, updates, strict=True)]
        for transform in self.transforms:
            new = transform.finish(new, now)
        return new, new_state

    def state_of(self, index):
        """Return what the transform in this place remembers, by name.

        Args:
            index: Place in `transforms`.

        Returns:
            Dict of variables, and of lists of them where variables of the model have one each. If all transforms are
            `elementwise`, small variables share one: a vector of all of them, in their order.
        """
        expect(self.built, type(self).__name__, "a built optimizer", "Train a step, or call build.", built=False)
        return dict(self._memory.state[index])

    def get_config(self):
        """Return the constructor arguments."""
        transforms = [keras.saving.serialize_keras_object(t) for t in self.transforms]
        return {**super().get_config(), "transforms": transforms}


class NamedChain(Chain):
    """Base class of the chains that have a name, and the arguments of their transforms instead of the transforms."""

    def get_config(self):
        """Return the constructor arguments."""
        config = super().get_config()
        transforms = [transform["config"] for transform in config.pop("transforms")]
        own = {name: value for transform in transforms for name, value in transform.items()}
        names = inspect.signature(type(self).__init__).parameters
        return {**config, **{name: own[name] for name in names if name in own}}
