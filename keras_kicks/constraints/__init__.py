"""Constraints on weights, applied after each step."""

from keras_kicks.constraints.l1_ball import L1Ball as L1Ball
from keras_kicks.constraints.l2_ball import L2Ball as L2Ball
from keras_kicks.constraints.linf_ball import LinfBall as LinfBall
from keras_kicks.constraints.symmetric import Symmetric as Symmetric
