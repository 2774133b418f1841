"""Observers and controllers of training."""

from keras_kicks.callbacks.scheduled_sampling import ScheduledSampling as ScheduledSampling
from keras_kicks.callbacks.tensorboard import TensorBoard as TensorBoard
