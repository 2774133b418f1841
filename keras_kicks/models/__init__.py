"""Models."""

from keras_kicks.models.distiller import Distiller as Distiller
from keras_kicks.models.truncated_bptt import TruncatedBPTT as TruncatedBPTT
