"""Metrics."""

from keras_kicks.metrics.gaussian_mean import GaussianMean as GaussianMean
