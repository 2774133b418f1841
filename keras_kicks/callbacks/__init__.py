"""Observers and controllers of training."""

from keras_kicks.callbacks.tensorboard import TensorBoard as TensorBoard
