"""Small data sets, drawn or shipped, that need no download."""

from keras_kicks.datasets.adding_problem import adding_problem as adding_problem
from keras_kicks.datasets.characters import Characters as Characters
from keras_kicks.datasets.characters import characters as characters
from keras_kicks.datasets.characters import streams as streams
from keras_kicks.datasets.copy_memory import copy_memory as copy_memory
from keras_kicks.datasets.temporal_order import temporal_order as temporal_order
