"""Which layer feeds which."""

import keras

from keras_kicks.compression.layer_graph import layer_graph

L = keras.layers


def edges(nodes):
    return {name: (node.inputs, node.outputs, node.calls, node.is_output) for name, node in nodes.items()}


def test_a_sequential_model_is_a_chain():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), L.ReLU(name="b")])
    assert edges(layer_graph(model)) == {"a": ([], ["b"], 1, False), "b": (["a"], [], 1, True)}


def test_a_functional_model_has_branches_operations_shared_layers_and_models():
    x = keras.Input((4,), name="x")
    dense, inner = L.Dense(4, name="dense"), keras.Sequential([keras.Input((4,)), L.ReLU()], name="inner")
    y = L.Add(name="add")([dense(x), inner(dense(x))])
    z = keras.ops.multiply(y, x)
    nodes = layer_graph(keras.Model(x, {"y": y, "z": L.Dense(2, name="end")(z)}))
    operation = next(name for name in nodes if name.startswith("multiply"))
    assert edges(nodes) == {
        "x": ([], ["dense", "dense", operation], 0, False),
        "dense": (["x", "x"], ["inner", "add"], 2, False),
        "inner": (["dense"], ["add"], 1, False),
        "add": (["dense", "inner"], [operation], 1, True),
        operation: (["add", "x"], ["end"], 1, False),
        "end": ([operation], [], 1, True),
    }
    assert nodes["dense"].layer is dense
    assert {name: node.feeds_one() for name, node in nodes.items()} == {
        "x": False, "dense": False, "inner": True, "add": False, operation: True, "end": False,
    }  # fmt: skip


def test_a_part_of_a_larger_graph_is_counted_by_itself():
    x = keras.Input((4,), name="x")
    dense = L.Dense(4, name="dense")
    y = dense(x)
    keras.Model(x, dense(L.ReLU()(y)))
    assert edges(layer_graph(keras.Model(x, y))) == {"x": ([], ["dense"], 0, False), "dense": (["x"], [], 1, True)}
