"""The loops over the nodes of trees: from the leaves to the roots, and back with a gradient.

Nodes are sorted by their height. Loops take them in pieces of one height and a fixed number of rows, so that the work
grows with the number of nodes, whatever the padding and the depth, XLA knows the shapes, and the graph does not grow
with the depth. A piece holds only what waits for other nodes. What does not, the products of the features and those
that make the gradients of the weights, is done for a block of pieces at once.

The gradient is written by hand but for the elementwise part: the loops run back over the pieces and hand the children
their parts. Differentiating the loops themselves would touch all nodes in every step.
"""

import keras
from keras import ops

from keras_kicks.ops.gradients import gradients_of
from keras_kicks.ops.tree_nodes import add_rows, put_rows

# Rows of a block, which holds leaves alone or none, and of the pieces of a wide level and of a narrow one: products of
# few rows are slow, large pieces of narrow levels mostly empty. No level is wider than the one below it, so that
# pieces change their size once.
BLOCK, WIDE, NARROW = 256, 64, 16


def tree_forward(rule, nodes, weights):
    """Return the rows of all nodes and one more, which is zero, and the sorted order."""
    order = nodes.sorted()

    def put_states(rows, index, new):
        if rule.sends:
            sent = ops.matmul(_heard(rule, new, nodes.noise_of(index)), weights["sent_kernel"])
            new = ops.concatenate([new, sent], axis=-1)
        return put_rows(rows, index, nodes.there(index, new))

    def leaves(start, rows):
        stop = ops.minimum(start + BLOCK, nodes.first_inner)
        index = nodes.piece(order, start, stop, BLOCK)
        return stop, put_states(rows, index, rule.combine(_project(nodes, weights, index)))

    def block(start, rows):
        end = ops.minimum(start + BLOCK, nodes.count)
        projected = _project(nodes, weights, nodes.piece(order, start, end, BLOCK))

        def piece(length):
            def run(begin, rows):
                stop = ops.minimum(ops.minimum(begin + length, end), nodes.level(ops.take(order, begin))[1])
                index = nodes.piece(order, begin, stop, length)
                below = ops.take(rows, nodes.below(index), axis=0)
                r = ops.matmul(rule.told(below, nodes.noise_of(index)), weights["recurrent_kernel"])
                z = ops.take(projected, _places(begin - start, length), axis=0)
                return stop, put_states(rows, index, rule.combine(z, r, below))

            return run

        def is_wide(begin, _):
            return ops.logical_and(begin < end, _is_wide(nodes, order, begin))

        state = ops.while_loop(is_wide, piece(WIDE), (start, rows))
        return ops.while_loop(lambda begin, _: begin < end, piece(NARROW), state)

    state = nodes.first, ops.zeros((nodes.count + 1, rule.width), nodes.inputs.dtype)
    state = ops.while_loop(lambda start, _: start < nodes.first_inner, leaves, state)
    _, rows = ops.while_loop(lambda start, _: start < nodes.count, block, state)
    return rows, order


def tree_backward(rule, nodes, weights, drows, rows, order):
    """Return the gradients by the inputs and the dict of those by the weights, from those by the rows."""
    names = tuple(sorted(weights))
    shown = rule.shown

    def upstream_of(drows, index):
        """Return the gradient by the states and by what is sent, which is another of the states."""
        upstream = nodes.there(index, ops.take(drows, index, axis=0))
        if not rule.sends:
            return upstream
        through = ops.matmul(upstream[:, shown:], ops.transpose(weights["sent_kernel"]))
        noise = nodes.noise_of(index)
        through = through if noise is None else through * noise
        through = ops.pad(through, ((0, 0), (0, shown - rule.units)))
        return upstream[:, :shown] + through

    def add_products(dinputs, totals, index, drows, dz, told=None, dr=None):
        """Add what a block of nodes gives to the gradients by the inputs and the weights."""
        new = {"kernel": _product(nodes.inputs_of(index), dz)}
        if "bias" in weights:
            new["bias"] = ops.sum(ops.cast(dz, totals["bias"].dtype), axis=0)
        if told is not None:
            new["recurrent_kernel"] = _product(told, dr)
        if rule.sends:
            heard = _heard(rule, ops.take(rows, index, axis=0), nodes.noise_of(index))
            new["sent_kernel"] = _product(heard, nodes.there(index, ops.take(drows, index, axis=0))[:, shown:])
        dx = ops.matmul(dz, ops.transpose(weights["kernel"]))
        totals = {name: x + ops.cast(new[name], x.dtype) if name in new else x for name, x in totals.items()}
        return put_rows(dinputs, index, dx), totals

    def block(end, drows, dinputs, *totals):
        start = ops.maximum(end - BLOCK, nodes.first_inner)
        index = nodes.piece(order, start, end, BLOCK)
        below = ops.take(rows, nodes.below(index), axis=0)
        told = rule.told(below, nodes.noise_of(index))
        z, r = _project(nodes, weights, index), ops.matmul(told, weights["recurrent_kernel"])

        def piece(length):
            def run(stop, drows, dz, dr):
                begin = ops.maximum(ops.maximum(stop - length, start), nodes.level(ops.take(order, stop - 1))[0])
                index = nodes.piece(order, begin, stop, length)
                children, places = nodes.below(index), _places(begin - start, length)
                below, noise = ops.take(rows, children, axis=0), nodes.noise_of(index)
                parts = gradients_of(
                    rule.combine,
                    (ops.take(z, places, axis=0), ops.take(r, places, axis=0), below),
                    upstream_of(drows, index),
                )
                dtold = ops.matmul(parts[1], ops.transpose(weights["recurrent_kernel"]))
                (dbelow,) = gradients_of(lambda below: rule.told(below, noise), (below,), dtold)
                dbelow = ops.reshape(parts[2] + dbelow, (-1, rule.width))
                drows = add_rows(drows, ops.reshape(children, (-1,)), dbelow)
                places = ops.where(index < nodes.count, places, BLOCK)
                return begin, drows, put_rows(dz, places, parts[0]), put_rows(dr, places, parts[1])

            return run

        def is_narrow(stop, *_):
            return ops.logical_and(stop > start, ops.logical_not(_is_wide(nodes, order, stop - 1)))

        state = (end, drows, *(ops.zeros((BLOCK + 1, x.shape[-1]), x.dtype) for x in (z, r)))
        state = ops.while_loop(is_narrow, piece(NARROW), state)
        _, drows, dz, dr = ops.while_loop(lambda stop, *_: stop > start, piece(WIDE), state)
        totals = dict(zip(names, totals, strict=True))
        dinputs, totals = add_products(dinputs, totals, index, drows, dz[:BLOCK], told, dr[:BLOCK])
        return start, drows, dinputs, *(totals[name] for name in names)

    def leaves(end, dinputs, *totals):
        start = ops.maximum(end - BLOCK, nodes.first)
        index = nodes.piece(order, start, end, BLOCK)
        z = _project(nodes, weights, index)
        (dz,) = gradients_of(rule.combine, (z,), upstream_of(drows, index))
        dinputs, totals = add_products(dinputs, dict(zip(names, totals, strict=True)), index, drows, dz)
        return start, dinputs, *(totals[name] for name in names)

    dinputs = ops.zeros((nodes.count + 1, nodes.inputs.shape[-1]), nodes.inputs.dtype)
    # Sums over many pieces: in float32 at least.
    totals = [ops.zeros(x.shape, keras.backend.result_type(x.dtype, "float32")) for _, x in sorted(weights.items())]
    state = (nodes.count, drows, dinputs, *totals)
    _, drows, *state = ops.while_loop(lambda end, *_: end > nodes.first_inner, block, state)
    _, dinputs, *totals = ops.while_loop(lambda end, *_: end > nodes.first, leaves, (nodes.first_inner, *state))
    return dinputs[:-1], {n: ops.cast(x, weights[n].dtype) for n, x in zip(names, totals, strict=True)}


def _project(nodes, weights, index):
    """Return the part of the features."""
    z = ops.matmul(nodes.inputs_of(index), weights["kernel"])
    return z + weights["bias"] if "bias" in weights else z


def _heard(rule, states, noise):
    """Return what is multiplied with the `sent_kernel`."""
    h = states[:, : rule.units]
    return h if noise is None else h * noise


def _product(x, dy):
    return ops.matmul(ops.transpose(x), dy)


def _places(first, length):
    """Return the places in a block of a piece's nodes; any for those behind its end."""
    return ops.minimum(first + ops.arange(length, dtype="int32"), BLOCK - 1)


def _is_wide(nodes, order, place):
    """Whether more than a small piece of nodes have the height of the node at this place."""
    # Loops ask beyond the first and the last node too before they end, of which no answer matters.
    begin, end = nodes.level(ops.take(order, ops.minimum(ops.maximum(place, 0), nodes.count - 1)))
    return end - begin > NARROW
