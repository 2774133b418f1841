"""Writing for TensorBoard."""

import contextlib
import os


@contextlib.contextmanager
def summary_writer(log_dir, step):
    """Give `tf.summary`, which writes at a step.

    Args:
        log_dir: Directory of the run, or a writer of `tf.summary`, which is left open.
        step: Step of all that is written.
    """
    import tensorflow as tf

    own = isinstance(log_dir, (str, os.PathLike))
    writer = tf.summary.create_file_writer(os.fspath(log_dir)) if own else log_dir
    with writer.as_default(step=step), tf.summary.record_if(True):
        yield tf.summary
    writer.flush()
    if own:
        writer.close()
