"""Keras 3 components that Keras lacks or gets wrong."""

from keras_kicks import callbacks as callbacks
from keras_kicks import compression as compression
from keras_kicks import constraints as constraints
from keras_kicks import datasets as datasets
from keras_kicks import diagnostics as diagnostics
from keras_kicks import layers as layers
from keras_kicks import losses as losses
from keras_kicks import metrics as metrics
from keras_kicks import models as models
from keras_kicks import optimizers as optimizers
from keras_kicks import regularizers as regularizers

__version__ = "0.1.0"
