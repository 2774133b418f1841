"""Layers."""

from keras_kicks.layers.activation.maxout import Maxout as Maxout
from keras_kicks.layers.activation.maxout_dense import MaxoutDense as MaxoutDense
from keras_kicks.layers.activation.rrelu import RReLU as RReLU
from keras_kicks.layers.normalization.group_normalization import GroupNormalization as GroupNormalization
from keras_kicks.layers.regularization.dropconnect import DropConnect as DropConnect
