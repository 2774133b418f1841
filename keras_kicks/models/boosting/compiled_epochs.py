"""Whole epochs of training in one call."""

import keras


class CompiledEpochs:
    """Runs the train steps of an epoch as one graph, which is made once for any number of epochs and of `fit`s.

    `keras.Model.fit` sets up a data pipeline in each call and an iterator in each epoch, which for a tiny model takes
    longer than its training. The steps are the same: `train_step` on the same batches.

    Args:
        model: A compiled Keras model on the TensorFlow backend.
    """

    def __init__(self, model):
        self._model = model
        self._epoch = None

    def fits(self):
        """Whether the steps are all that `fit` does: without replicas, eager steps and methods of a model's own."""
        model = self._model
        if keras.backend.backend() != "tensorflow" or not model.compiled or model.run_eagerly:
            return False
        own = [name for name in ("fit", "make_train_function") if getattr(type(model), name) is not _theirs(name)]
        return not own and model.distribute_strategy.num_replicas_in_sync == 1

    def run(self, x, y, weights, orders, batch_size):
        """Train for an epoch by each order of the samples; return the loss of the last."""
        import tensorflow as tf

        if self._epoch is None:
            self._epoch = self._made()
        for order in orders:
            self._model.reset_metrics()
            steps = len(order) // batch_size * batch_size
            full = tf.reshape(tf.constant(order[:steps], "int32"), (-1, batch_size))
            self._epoch(x, y, weights, full, tf.constant(order[steps:], "int32"))
        if isinstance(self._model.optimizer, keras.optimizers.Optimizer):
            # As `fit` ends: averages of weights take their place.
            self._model.optimizer.finalize_variable_values(self._model.trainable_variables)
        return float(self._model.get_metrics_result()["loss"])

    def _made(self):
        import tensorflow as tf

        model = self._model
        jit_compile = bool(model.jit_compile)

        @tf.function(autograph=False, jit_compile=jit_compile, reduce_retracing=True)
        def step(data):
            model.train_step(data)

        def on(places, data):
            step(tuple(keras.tree.map_structure(lambda a: tf.gather(a, places), part) for part in data))

        @tf.function(autograph=False)
        def epoch(x, y, weights, full, rest):
            data = (x, y) if weights is None else (x, y, weights)

            def body(i):
                on(full[i], data)
                return i + 1

            count = full.shape[0]
            if count:
                with tf.control_dependencies(tf.while_loop(lambda i: i < count, body, [0])):
                    tf.no_op()
            if rest.shape[0]:
                on(rest, data)

        return epoch


def _theirs(name):
    return getattr(keras.Model, name)
