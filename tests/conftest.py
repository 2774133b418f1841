"""What every test relies on."""

import gc
import os

# Two logical CPUs and no accelerator: tests of replicas need the first, equal numbers everywhere the second.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import pytest

BACKEND = keras.backend.backend()


def pytest_configure():
    """Split the CPU in two before TensorFlow starts."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_collection_modifyitems(items):
    """Skip what only TensorFlow can do on the other backends."""
    if BACKEND != "tensorflow":
        skip = pytest.mark.skip(reason="needs the TensorFlow backend")
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same seed, the float32 policy and a clean name space."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1234)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True, scope="module")
def _swept():
    """What a file leaves behind, graphs that TensorFlow keeps above all, is not looked through again and again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def strategy():
    """A MirroredStrategy on two logical CPUs; one for all tests, since TensorFlow mixes up the sums of a second one."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
