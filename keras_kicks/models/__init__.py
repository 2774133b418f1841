"""Models."""

from keras_kicks.models.distiller import Distiller as Distiller
