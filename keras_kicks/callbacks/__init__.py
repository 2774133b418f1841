"""Observers and controllers of training."""

from keras_kicks.callbacks.gradient_flow import GradientFlow as GradientFlow
from keras_kicks.callbacks.gradient_flow_picture import gradient_flow_picture as gradient_flow_picture
from keras_kicks.callbacks.gradient_report import GradientReport as GradientReport
from keras_kicks.callbacks.gradient_report import LayerFlow as LayerFlow
from keras_kicks.callbacks.scheduled_sampling import ScheduledSampling as ScheduledSampling
from keras_kicks.callbacks.tensorboard import TensorBoard as TensorBoard
