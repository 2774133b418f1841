"""Small data sets, drawn or shipped, that need no download."""

from keras_kicks.datasets.adding_problem import adding_problem as adding_problem
from keras_kicks.datasets.characters import Characters as Characters
from keras_kicks.datasets.characters import characters as characters
from keras_kicks.datasets.characters import streams as streams
from keras_kicks.datasets.copy_memory import copy_memory as copy_memory
from keras_kicks.datasets.list_ops import LIST_OPS_TOKENS as LIST_OPS_TOKENS
from keras_kicks.datasets.list_ops import list_ops as list_ops
from keras_kicks.datasets.list_ops import list_ops_sequence as list_ops_sequence
from keras_kicks.datasets.list_ops import list_ops_tree as list_ops_tree
from keras_kicks.datasets.temporal_order import temporal_order as temporal_order
from keras_kicks.datasets.tree_batches import TreeBatches as TreeBatches
from keras_kicks.datasets.trees import nested_trees as nested_trees
from keras_kicks.datasets.trees import tree_tensors as tree_tensors
from keras_kicks.datasets.trees import tree_topology as tree_topology
