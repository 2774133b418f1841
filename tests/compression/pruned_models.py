"""Models of all kinds to prune, and what is common to their tests."""

import keras
import numpy as np

from keras_kicks.layers import DropConnect, MaxoutDense

L = keras.layers


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A model of one's own class."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = L.Dense(8, "relu", name="hidden")
        self.out = L.Dense(2, name="out")

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.out.build((None, 8))

    def call(self, x):
        return self.out(self.hidden(x))


@keras.saving.register_keras_serializable(package="tests")
class Own(keras.layers.Layer):
    """A layer that says what to prune, and has no attribute for a constraint."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(input_shape[-1], 4), name="table")
        self.scale = self.add_weight(shape=(1, 4), name="scale", initializer="ones")

    def call(self, x):
        return (x @ self.table) * self.scale

    def get_prunable_weights(self):
        return [self.table]


def sequential(*layers, shape=(6,), dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def nested():
    inner = keras.Sequential([keras.Input((6,)), L.Dense(6, name="dense")], name="inner")
    shared = L.Dense(6, name="shared")
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(2, name="dense")(shared(shared(inner(x)))))


def attention(kind=L.MultiHeadAttention, **kwargs):
    x = keras.Input((4, 6))
    layer = kind(head_dim=3, num_query_heads=2, num_key_value_heads=1) if kind is not L.MultiHeadAttention else None
    layer = layer or kind(2, 3, **kwargs)
    return keras.Model(x, L.Dense(2)(layer(x, x)))


def subclassed():
    model = Subclassed()
    model.build((None, 6))
    return model


# Each with the number of kernels that are pruned.
MODELS = {
    "dense": (lambda: sequential(L.Dense(8, "relu"), L.BatchNormalization(), L.Dense(2)), 2),
    "nested and shared": (nested, 3),
    "subclassed": (subclassed, 2),
    "conv1d": (lambda: sequential(L.Conv1D(4, 3), shape=(8, 3)), 1),
    "conv2d": (lambda: sequential(L.Conv2D(4, 3), L.DepthwiseConv2D(2), L.Conv2DTranspose(2, 2), shape=(8, 8, 3)), 2),
    "conv3d": (lambda: sequential(L.Conv3D(4, 2), shape=(4, 4, 4, 3)), 1),
    "separable": (lambda: sequential(L.SeparableConv2D(4, 3), shape=(8, 8, 3)), 1),
    "embedding": (lambda: sequential(L.Embedding(10, 4), L.Dense(2), dtype="int32"), 2),
    "lstm": (lambda: sequential(L.LSTM(4), L.Dense(2), shape=(5, 3)), 3),
    "gru": (lambda: sequential(L.Bidirectional(L.GRU(4)), shape=(5, 3)), 4),
    "cells": (lambda: sequential(L.RNN([L.SimpleRNNCell(3), L.LSTMCell(4)]), shape=(5, 3)), 4),
    "attention": (attention, 5),
    "grouped attention": (lambda: attention(L.GroupQueryAttention), 5),
    "time distributed": (lambda: sequential(L.TimeDistributed(L.EinsumDense("bi,ij->bj", 4)), shape=(5, 3)), 1),
    "maxout": (lambda: sequential(MaxoutDense(4, 3), L.Dense(2)), 2),
    "dropconnect": (lambda: sequential(DropConnect(L.Dense(8), 0.2, seed=1), L.Dense(2)), 2),
    "own layer": (lambda: sequential(Own(), L.Dense(2)), 2),
}


def data(model, batches=12, size=8, seed=0):
    """Return inputs and targets for a model of one input and one output."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(batches * size, *model.input_shape[1:])).astype("float32")
    if keras.backend.is_int_dtype(model.inputs[0].dtype):
        x = random.integers(0, 10, size=x.shape)
    return x, random.normal(size=(len(x), *model.output_shape[1:])).astype("float32")


def zeros(variable):
    return int((keras.ops.convert_to_numpy(variable) == 0).sum())


def sparsity(variable):
    return zeros(variable) / int(np.prod(variable.shape))
