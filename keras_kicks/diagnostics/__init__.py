"""What is the matter with a model."""

from keras_kicks.diagnostics.gradient_noise import GradientNoiseScale as GradientNoiseScale
from keras_kicks.diagnostics.gradient_noise_scale import gradient_noise_scale as gradient_noise_scale
from keras_kicks.diagnostics.gradient_through_time import gradient_through_time as gradient_through_time
from keras_kicks.diagnostics.state_gradients import GradientThroughTime as GradientThroughTime
from keras_kicks.diagnostics.state_gradients import StateGradient as StateGradient
