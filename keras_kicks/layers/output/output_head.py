"""The last layer of a model, with the loss, the metrics and the likelihood of its task."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_number
from keras_kicks._producer import producer
from keras_kicks.layers.output import tasks
from keras_kicks.layers.output.compile_check import check_loss, check_metrics
from keras_kicks.losses.gaussian_nll import GaussianNLL
from keras_kicks.ops.gaussian import FORMS

TASKS = ("regression", "binary", "multiclass", "multilabel")


@keras.saving.register_keras_serializable(package="keras_kicks")
class OutputHead(keras.layers.Dense):
    """A Dense layer without an activation, for what its outputs are to mean.

        task          unit      distribution p(y | x)                 loss (nats = factor * loss + constant)
        "regression"  linear    Gaussian, mean and variance learned   `losses.GaussianNLL`
        "regression"  linear    Gaussian, variance a number           mean squared error
        "binary"      sigmoid   Bernoulli                             binary crossentropy of logits
        "multiclass"  softmax   categorical                           categorical crossentropy of logits
        "multilabel"  sigmoid   Bernoulli for each label              binary crossentropy of logits

    The outputs are logits, or for a learned variance the means and then what the variances are made of, because the
    losses are exact on these: log(sigmoid(-40)) is -40, and of the float32 sigmoid(-40) nothing is left to train by.
    `activate` makes probabilities, or mean and standard deviation, of them, and `predictive_model` puts that behind a
    trained model. The layer computes in float32 unless told otherwise, also under a mixed policy.

    Args:
        task: "regression", "binary", "multiclass" or "multilabel".
        size: Number of targets, classes (>= 2) or labels; 1 for "binary".
        variance: For regression: "learned", or the known variance of the noise, > 0, in squared units of the targets.
        variance_form: "softplus" or "log", as in `losses.GaussianNLL`.
        min_variance: Least learned variance, > 0.
        sparse: For multiclass: whether labels are class ids rather than one-hot.
        **kwargs: What `keras.layers.Dense` takes besides units and activation.

    Call arguments:
        inputs: Shape (batch, ..., features).

    Returns:
        Shape (batch, ..., size), or (batch, ..., 2 size) for a learned variance.

    Raises:
        TypeError: size is no integer; a number is none.
        ValueError: expected a known task; no activation; a size of 1 for binary, >= 2 for multiclass, else >= 1;
            variance > 0 or "learned"; min_variance > 0; a known variance_form.

    Masking:
        The mask is passed on.

    Source:
        Goodfellow, Bengio and Courville, "Deep Learning", 2016, section 6.2.2; the notes' output units.

    Example:
        >>> from keras_kicks.layers import OutputHead
        >>> head = OutputHead("multiclass", 3)
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), head])
        >>> model.compile("adam", **head.compile_arguments())
        >>> head.predictive_model(model).predict(keras.ops.ones((2, 4)), verbose=0).sum(axis=-1).round(4).tolist()
        [1.0, 1.0]
    """

    def __init__(
        self,
        task,
        size=1,
        variance="learned",
        variance_form="softplus",
        min_variance=1e-6,
        sparse=True,
        **kwargs,
    ):
        owner = type(self).__name__
        expect_choice(owner, TASKS, task=task)
        expect_integer(owner, size=size)
        rule = {"binary": "size=1 for a binary task", "multiclass": "size >= 2, the number of classes"}
        least = 2 if task == "multiclass" else 1
        fits = size >= least and (task != "binary" or size == 1)
        expect(fits, owner, rule.get(task, "size >= 1"), task=task, size=size)
        activation = kwargs.pop("activation", None)
        no_activation = activation is None or keras.activations.get(activation) is keras.activations.linear
        expect(
            no_activation,
            owner,
            "no activation, since its losses take logits",
            "Use activate() or predictive_model() for probabilities.",
            activation=activation,
        )
        if variance != "learned":
            expect_number(owner, 'Pass "learned" or a number.', variance=variance)
            expect(variance > 0, owner, "variance > 0", variance=variance)
            variance = float(variance)
        expect_choice(owner, FORMS, variance_form=variance_form)
        expect_number(owner, min_variance=min_variance)
        expect(min_variance > 0, owner, "min_variance > 0", min_variance=min_variance)
        self.task, self.size, self.variance = task, int(size), variance
        self.variance_form, self.min_variance, self.sparse = variance_form, float(min_variance), bool(sparse)
        super().__init__(self._task.width, dtype=kwargs.pop("dtype", None) or "float32", **kwargs)

    @property
    def _task(self):
        if self.task == "regression":
            learned = self.variance == "learned"
            return (tasks.LearnedVarianceRegression if learned else tasks.FixedVarianceRegression)(self)
        if self.task == "multiclass":
            return (tasks.Multiclass if self.sparse else tasks.MulticlassOneHot)(self)
        return (tasks.Binary if self.task == "binary" else tasks.Multilabel)(self)

    def compile_arguments(self, loss=None, metrics=None, model=None):
        """Return {"loss": …, "metrics": …} for `compile`.

        Args:
            loss: A loss of one's own in place of the task's.
            metrics: A list in place of the task's metrics. "accuracy" is that of the task. Where a variance is learned,
                Keras's metrics of numbers are given the means.
            model: The Sequential or functional model that is to be compiled, to see that this layer makes its output,
                or one of them.

        Raises:
            ValueError: expected a loss that fits the task, on logits; metrics that do; a GaussianNLL with the head's
                variance_form and min_variance; a model whose output is that of the head.
        """
        owner, task = type(self).__name__, self._task
        if model is not None:
            self._check_output(model, several=True)
        loss = task.loss() if loss is None else check_loss(owner, task.kind, loss)
        if isinstance(loss, GaussianNLL):
            got, own = (loss.variance, loss.min_variance), (self.variance_form, self.min_variance)
            rule = f"a GaussianNLL of variance={own[0]!r} and min_variance={own[1]}, as the head has them"
            expect(got == own, owner, rule, variance=got[0], min_variance=got[1])
        return {"loss": loss, "metrics": task.metrics() if metrics is None else check_metrics(owner, task, metrics)}

    def activate(self, outputs):
        """Return what the outputs of the layer stand for.

        Returns:
            Probabilities, of the shape of the outputs; for regression {"mean": …, "standard_deviation": …}.
        """
        return self._task.activate(outputs)

    def predictive_model(self, model):
        """Return a model with the same weights whose outputs are activated; it needs no loss.

        Args:
            model: A Sequential or functional model that ends in this layer.

        Raises:
            ValueError: expected a model whose output is that of the head.
        """
        self._check_output(model)
        return keras.Model(model.inputs, self.activate(model.outputs[0]), name=f"predictive_{model.name}")

    def log_likelihood(self, y_true, outputs):
        """Return log p(y | x) of each sample in nats, summed over targets or labels.

        Args:
            y_true: Targets as for the loss.
            outputs: What the layer returned, shape (batch, ..., units).

        Returns:
            Shape (batch, ...).
        """
        outputs = ops.convert_to_tensor(outputs, dtype="float32")
        y_true = ops.convert_to_tensor(y_true)
        if self.task != "multiclass" or not self.sparse:
            y_true = ops.cast(y_true, outputs.dtype)
            if self.size == 1 and len(y_true.shape) < len(outputs.shape):
                y_true = ops.expand_dims(y_true, axis=-1)
        return self._task.log_likelihood(y_true, outputs)

    def nats(self, loss):
        """Return the mean negative log-likelihood in nats for a value of the task's loss, as a float."""
        return self._task.factor * float(loss) + self._task.constant

    def _check_output(self, model, several=False):
        owner, outputs = type(self).__name__, getattr(model, "outputs", None)
        known, remedy = "a built Sequential or functional model", "What another does after the head is not known."
        expect(outputs, owner, known, remedy, model=model.name)
        rule = "a model whose output is that of the head"
        remedy = "Let the model end in the head: no softmax, sigmoid or other layer after it."
        made = [producer(output) is self for output in outputs]
        expect(any(made) and (several or len(made) == 1), owner, rule, remedy, model=model.name)

    def get_config(self):
        """Return the constructor arguments."""
        config = super().get_config()
        del config["units"], config["activation"]
        own = ("task", "size", "variance", "variance_form", "min_variance", "sparse")
        return {**config, **{name: getattr(self, name) for name in own}}
