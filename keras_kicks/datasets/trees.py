"""Trees as tensors: nested lists and arrays of indices into what the recursive layers take, and back."""

import numpy as np

from keras_kicks._errors import expect, expect_integer


def tree_tensors(trees, inner_labels=False, arity=None, nodes=None):
    """Turn nested lists into the tensors that `keras_kicks.layers.TreeRNN` and the Tree-LSTMs take.

    A list or tuple is a node with children, anything else a leaf's label: a number, a string or an array. With
    `inner_labels` the first entry of a list is the label of the node itself, as in `("MAX", 2, ("MIN", 4, 7))`. None in
    place of a child says that there is none in this place.

    Args:
        trees: Sequence of nested lists or tuples, of any depth, at least one.
        inner_labels: Whether the first entry of a list is a label.
        arity: Places for children; by default as many as any node has.
        nodes: Nodes to pad the trees to; by default as many as the largest has.

    Returns:
        labels: Shape (trees, nodes, ...), in the dtype that NumPy finds for them; zeros, or "", for padding and for
            nodes without a label. Children come before their parent, from left to right, and the root comes last.
        topology: int32, shape (trees, nodes, 1 + arity), as `tree_topology` returns it.

    Raises:
        TypeError: `trees` is no sequence; `arity` or `nodes` is no integer.
        ValueError: expected at least one tree; at least one child in every list; no list within itself; no more
            children than `arity`; no more nodes than `nodes`; labels of one shape.

    Source:
        The heights are what Looks et al. 2017, arXiv:1702.02181, batch by: all nodes of one height depend on lower
        ones alone.

    Example:
        >>> labels, topology = tree_tensors([("+", "a", ("*", "b", "c")), "d"], inner_labels=True)
        >>> labels.tolist()
        [['a', 'b', 'c', '*', '+'], ['d', '', '', '', '']]
        >>> topology[0].tolist()  # of each node: its height, and where its children are
        [[0, -1, -1], [0, -1, -1], [0, -1, -1], [1, 1, 2], [2, 0, 3]]
    """
    owner = "tree_tensors"
    labels, children = flat_trees(owner, trees, inner_labels)
    topology = padded_topology(owner, children, arity, nodes)
    return padded(owner, labels, topology.shape[1]), topology


def tree_topology(children=None, parents=None, arity=None, nodes=None):
    """Turn indices of children, or of parents, into the topology that the recursive layers take.

    The nodes of a tree may be in any order, such as that of the words of a sentence: the layers go by the heights.

    Args:
        children: For each tree the indices of its nodes' children: a list of trees, each a list of one list of indices
            for each node, or an integer array of shape (trees, nodes, arity) with -1 where there is no child. Nodes at
            the end of an array that are in no tree are padding.
        parents: Instead of `children`: for each tree a list with the index of each node's parent, -1 for the root.
            Children are then in the order of their indices.
        arity: Places for children; by default as many as any node needs.
        nodes: Nodes to pad the trees to; by default as many as the largest has.

    Returns:
        int32 array of shape (trees, nodes, 1 + arity): of each node the height, which is 0 for a leaf and -1 for
        padding, and the indices of its children, -1 where there is none.

    Raises:
        TypeError: indices are no integers; `arity` or `nodes` is no integer.
        ValueError: expected either `children` or `parents`; at least one tree, and one node in each; indices of nodes
            of the tree; one parent for every node but the root; one root; no cycle; no more children than `arity`; no
            more nodes than `nodes`.

    Source:
        As `tree_tensors`.

    Example:
        >>> tree_topology(children=[[[], [], [0, 1]]])[0].tolist()
        [[0, -1, -1], [0, -1, -1], [1, 0, 1]]
        >>> tree_topology(parents=[[1, -1, 1]])[0].tolist()  # the root may stand anywhere
        [[0, -1, -1], [1, 0, 2], [0, -1, -1]]
    """
    owner = "tree_topology"
    given = {"children": children is not None, "parents": parents is not None}
    expect(sum(given.values()) == 1, owner, "either children or parents", **given)
    if parents is not None:
        children = [_children_of(owner, tree, parent) for tree, parent in enumerate(_listed(owner, parents=parents))]
    if isinstance(children, np.ndarray):
        return _from_array(owner, children, arity, nodes)
    return padded_topology(owner, _listed(owner, children=children), arity, nodes)


def nested_trees(labels, topology, inner_labels=False):
    """Turn tensors back into nested lists: the inverse of `tree_tensors`.

    Args:
        labels: Shape (trees, nodes, ...).
        topology: Integers, shape (trees, nodes, 1 + arity), of `tree_tensors` or `tree_topology`.
        inner_labels: Whether to put the label of a node with children before them.

    Returns:
        List of nested lists, with None where a child is missing before the last one.

    Raises:
        ValueError: expected labels and topology of the same trees and nodes.

    Source:
        As `tree_tensors`.

    Example:
        >>> nested_trees(*tree_tensors([[1, [2, 3]], [[4, 5], 6]]))
        [[1, [2, 3]], [[4, 5], 6]]
    """
    labels, topology = np.asarray(labels), np.asarray(topology)
    same = topology.ndim == 3 and labels.shape[:2] == topology.shape[:2]
    rule = "labels and topology of the same trees and nodes"
    expect(same, "nested_trees", rule, labels_shape=labels.shape, topology_shape=topology.shape)
    trees = []
    for values, rows in zip(labels, topology, strict=True):
        values = values.tolist() if labels.ndim == 2 else values
        nested = [None] * len(rows)
        for node in np.argsort(rows[:, 0], kind="stable"):
            places = np.flatnonzero(rows[node, 1:] >= 0)
            children = rows[node, 1 : 2 + places[-1]] if len(places) else ()
            below = [None if child < 0 else nested[child] for child in children]
            nested[node] = [*([values[node]] if inner_labels else []), *below] if below else values[node]
        trees.append(nested[rows[:, 0].argmax()])
    return trees


def flat_trees(owner, trees, inner_labels):
    """Number the nodes of nested lists; return the labels and the children's indices, both by tree and node."""
    flat = [_flat(owner, tree, nested, inner_labels) for tree, nested in enumerate(_listed(owner, trees=trees))]
    return [labels for labels, _ in flat], [children for _, children in flat]


def padded(owner, labels, nodes):
    """Return the labels of trees as one array, with zeros, or "", where there is none."""
    there = [(tree, node) for tree, row in enumerate(labels) for node, label in enumerate(row) if label is not None]
    given = [labels[tree][node] for tree, node in there] or [0.0]
    try:
        values = np.array(given)
    except ValueError:
        values = np.array([None])
    # NumPy would make strings of the numbers among strings.
    alike = values.dtype != object and len({isinstance(label, str) for label in given}) == 1
    remedy = "A list is a node with children: pass a label as a number, a string or an array."
    expect(alike, owner, "labels of one kind and shape", remedy, trees=len(labels))
    array = np.zeros((len(labels), nodes, *values.shape[1:]), values.dtype)
    if there:
        array[tuple(np.transpose(there))] = values
    return array


def padded_topology(owner, children, arity=None, nodes=None):
    """Return the topology of trees whose children are given by tree and node; as `tree_topology`."""
    sizes = np.array([len(tree) for tree in children])
    for tree, size in enumerate(sizes):
        expect(size > 0, owner, "at least one node in every tree", tree=tree)
    places = np.array([len(node) for tree in children for node in tree])
    arity = _at_least(owner, "arity", arity, max(1, places.max()), "children of a node")
    nodes = _at_least(owner, "nodes", nodes, sizes.max(), "nodes of a tree")
    tree = np.repeat(np.arange(len(sizes)), sizes)
    node = np.arange(len(tree)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = np.arange(places.sum()) - np.repeat(np.cumsum(places) - places, places)
    array = np.full((len(sizes), nodes, arity), -1, "int32")
    entries = [child for tree in children for node in tree for child in node]
    array[np.repeat(tree, places), np.repeat(node, places), place] = _integers(owner, entries)
    return _with_heights(owner, array, sizes)


def _listed(owner, **got):
    ((name, value),) = got.items()
    expect(isinstance(value, (list, tuple, np.ndarray)), owner, f"a sequence for {name}", error=TypeError, **got)
    expect(len(value) > 0, owner, "at least one tree", **got)
    return value


def _integers(owner, values):
    array = np.asarray(values) if len(values) else np.zeros(0, "int32")
    expect(np.issubdtype(array.dtype, np.integer), owner, "integers for indices", error=TypeError, dtype=array.dtype)
    return array


def _at_least(owner, name, value, needed, what):
    if value is None:
        return int(needed)
    expect_integer(owner, **{name: value})
    remedy = f"Leave {name} out, or pass at least the number that is needed."
    expect(value >= needed, owner, f"no more {what} than {name}", remedy, **{name: value, "needed": int(needed)})
    return int(value)


_LEAVE = object()


def _flat(owner, tree, nested, inner_labels):
    """Number the nodes of one tree, without recursion, for trees that are deeper than Python's stack.

    From the root and the last child to the first, and then the other way round: children before their parent.
    """
    labels, children, path, ahead = [], [], set(), [(nested, None, None)]
    while ahead:
        node, parent, place = ahead.pop()
        if node is _LEAVE:
            path.discard(parent)
            continue
        if parent is not None:
            children[parent][place] = len(labels)
        if not isinstance(node, (list, tuple)):
            labels.append(node)
            children.append([])
            continue
        expect(id(node) not in path, owner, "no list within itself", tree=tree)
        path.add(id(node))
        ahead.append((_LEAVE, id(node), None))
        entries = node[1:] if inner_labels else node
        named = any(entry is not None for entry in entries)
        expect(
            named, owner, "at least one child in every list", "A leaf is a label without a list.", tree=tree, node=node
        )
        ahead += [(entry, len(labels), place) for place, entry in enumerate(entries) if entry is not None]
        labels.append(node[0] if inner_labels else None)
        children.append([-1] * len(entries))
    last = len(labels) - 1
    return labels[::-1], [[last - child if child >= 0 else -1 for child in node] for node in children[::-1]]


def _children_of(owner, tree, parents):
    """Return the children of each node of one tree from the nodes' parents."""
    parents = _integers(owner, parents)
    expect(parents.ndim == 1, owner, "one parent for every node", tree=tree, shape=parents.shape)
    inside = (parents >= -1) & (parents < len(parents))
    expect(inside.all(), owner, "indices of nodes of the tree", tree=tree, parents=parents.tolist())
    children = [[] for _ in parents]
    for node, parent in enumerate(parents.tolist()):
        if parent >= 0:
            children[parent].append(node)
    return children


def _from_array(owner, children, arity, nodes):
    """Return the topology from an array with padding."""
    rank = children.ndim == 3 and 0 not in children.shape
    expect(rank, owner, "an array of shape (trees, nodes, arity)", shape=children.shape)
    children = _integers(owner, children)
    used = children >= 0
    joined = used.any(axis=-1)
    trees, _, _ = np.nonzero(used)
    below = np.where(used, children, 0)[used]
    inside = below < children.shape[1]
    joined[trees[inside], below[inside]] = True
    # A tree of one node has neither parent nor child.
    sizes = np.where(joined.any(axis=1), joined.shape[1] - joined[:, ::-1].argmax(axis=1), 1)
    arity = _at_least(owner, "arity", arity, children.shape[2], "children of a node")
    nodes = _at_least(owner, "nodes", nodes, sizes.max(), "nodes of a tree")
    array = np.full((len(children), max(nodes, children.shape[1]), arity), -1, "int32")
    array[:, : children.shape[1], : children.shape[2]] = children
    return _with_heights(owner, array, sizes)[:, :nodes]


def _with_heights(owner, children, sizes):
    """Check padded indices of children, and put the height of each node before them."""
    trees, nodes, _ = children.shape

    def expect_all(holds, rule, remedy=""):
        if not holds.all():
            tree, node = np.argwhere(~holds)[0, :2]
            expect(False, owner, rule, remedy, tree=int(tree), node=int(node), children=children[tree, node].tolist())

    expect_all((children >= -1) & (children < sizes[:, None, None]), "indices of nodes of the tree, or -1 for no child")
    used = children >= 0
    where, parent, _ = np.nonzero(used)
    child = children[used]
    parents = np.bincount(where * nodes + child, minlength=trees * nodes).reshape(trees, nodes)
    expect_all(parents <= 1, "one parent for every node")
    there = np.arange(nodes) < sizes[:, None]
    roots = (there & (parents == 0)).sum(axis=1)
    for tree in np.flatnonzero(roots != 1):
        rule, remedy = (
            ("one root in every tree", "Join them under one.") if roots[tree] else ("trees without cycles", "")
        )
        expect(False, owner, rule, remedy, tree=int(tree), roots=int(roots[tree]))
    heights = np.where(there, 0, -1).astype("int32")
    for _ in range(nodes):
        before = heights.copy()
        np.maximum.at(heights, (where, parent), before[where, child] + 1)
        if (before == heights).all():
            return np.concatenate([heights[..., None], children], axis=-1)
    expect(False, owner, "trees without cycles", tree=int(np.argwhere(before != heights)[0, 0]))
    return None
