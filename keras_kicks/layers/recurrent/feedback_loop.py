"""Step by step, where a decoder is fed what it predicted."""

from keras import ops

from keras_kicks.layers.recurrent.feedback_arguments import is_sequence
from keras_kicks.ops.random import draw_uniform
from keras_kicks.ops.scan import scan


def shifted(labels, first, steps, mask):
    """Return what is fed at each step: the label of the last step before it that counts."""
    first = ops.expand_dims(first, 1)
    labels = ops.cast(labels, first.dtype)
    if mask is None:
        return ops.concatenate([first, labels[:, :-1]], axis=1)
    counted = ops.cast(mask, "int32")
    places = ops.expand_dims(ops.arange(steps), 0) + (1 - counted) * steps
    before = ops.cumsum(counted, axis=1) - counted
    order = ops.argsort(places, axis=1)
    if len(labels.shape) == 3:
        order, before = ops.expand_dims(order, -1), ops.expand_dims(before, -1)
    # Those that count in a row, and the first one before them.
    row = ops.concatenate([first, ops.take_along_axis(labels, order, axis=1)], axis=1)
    return ops.take_along_axis(row, before, axis=1)


def mixed(decoder, teacher, batch, steps, states, inputs, mask):
    """Return what is fed at each step if a coin chooses between the label and the decoder's own output."""
    draws = draw_uniform((2, batch, steps), decoder.seed_generator, per_replica=True)
    rows = {"teacher": teacher, "coin": draws[0] < decoder.teacher_forcing_ratio, "draw": draws[1]}

    def step(carry, now):
        own, *states = carry
        fed = ops.where(_wide(now["coin"], own), now["teacher"], own)
        outputs, after = decoder.step(fed, states, now.get("inputs"))
        return _kept(now.get("mask"), (decoder.own_fed(outputs, now["draw"]), *after), carry), (fed,)

    (fed,) = _scan(step, (decoder.first_fed(batch), *states), steps, {**rows, "mask": mask}, inputs)
    # The gradient by the labels, if they have one, stays.
    coin = ops.reshape(rows["coin"], (batch, steps, *[1] * (len(teacher.shape) - 2)))
    return ops.where(coin, teacher, ops.stop_gradient(fed))


def free_run(decoder, batch, steps, states, inputs, mask):
    """Return the outputs of all steps, each after the decoder's own output of the step before."""

    def step(carry, now):
        own, ended, *states = carry
        outputs, after = decoder.step(own, states, now.get("inputs"))
        outputs, own, ended = decoder.emit(outputs, ended)
        return _kept(now.get("mask"), (own, ended, *after), carry), (outputs,)

    carry = (decoder.first_fed(batch), ops.zeros((batch,), dtype="bool"), *states)
    (outputs,) = _scan(step, carry, steps, {"mask": mask}, inputs)
    return outputs


def _scan(step, carry, steps, rows, inputs):
    """Run `step` over the steps of what is there of `rows` and `inputs`; return its outputs, batch first."""
    rows = {name: row for name, row in {**rows, "inputs": inputs}.items() if row is not None}
    constant = {"inputs": rows.pop("inputs")} if "inputs" in rows and not is_sequence(inputs) else {}
    rows = {name: ops.swapaxes(row, 0, 1) for name, row in rows.items()} or {"t": ops.arange(steps)}

    def named(carry, now):
        return step(carry, {**constant, **dict(zip(rows, now, strict=True))})

    _, _, outputs = scan(named, carry, tuple(rows.values()), keep_states=False)
    return [ops.swapaxes(output, 0, 1) for output in outputs]


def _wide(coin, value):
    """Of shape (batch,), with as many more axes as `value` has."""
    return ops.reshape(coin, (-1, *[1] * (len(value.shape) - 1)))


def _kept(counts, new, old):
    """The old values where a step does not count."""
    if counts is None:
        return tuple(new)
    return tuple(ops.where(_wide(counts, b), a, b) for a, b in zip(new, old, strict=True))
