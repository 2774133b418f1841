"""One question a file: a component beside its peers, in one run."""

import os

# All three are read once, when TensorFlow or torch is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
# torch's threads otherwise wait for each other in a loop that never yields. TensorFlow's threads share the cores with
# them, and whenever one was in the way torch took ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
