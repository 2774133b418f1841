"""Observers and controllers of training."""

from keras_kicks.callbacks.early_stopping import EarlyStopping as EarlyStopping
from keras_kicks.callbacks.generalization_gap import GeneralizationGap as GeneralizationGap
from keras_kicks.callbacks.gradient_flow import GradientFlow as GradientFlow
from keras_kicks.callbacks.gradient_flow_picture import gradient_flow_picture as gradient_flow_picture
from keras_kicks.callbacks.gradient_report import GradientReport as GradientReport
from keras_kicks.callbacks.gradient_report import LayerFlow as LayerFlow
from keras_kicks.callbacks.learning_curves_picture import learning_curves_picture as learning_curves_picture
from keras_kicks.callbacks.prechelt_rules import GL as GL
from keras_kicks.callbacks.prechelt_rules import PQ as PQ
from keras_kicks.callbacks.prechelt_rules import UP as UP
from keras_kicks.callbacks.prechelt_rules import LowProgress as LowProgress
from keras_kicks.callbacks.scheduled_sampling import ScheduledSampling as ScheduledSampling
from keras_kicks.callbacks.stopping_rule import Patience as Patience
from keras_kicks.callbacks.stopping_rule import StoppingCheck as StoppingCheck
from keras_kicks.callbacks.stopping_rule import StoppingRule as StoppingRule
from keras_kicks.callbacks.tensorboard import TensorBoard as TensorBoard
from keras_kicks.callbacks.time_stopping import TimeStopping as TimeStopping
