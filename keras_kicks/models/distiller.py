"""Knowledge distillation in one `fit`."""

import inspect
import os

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.losses.distillation.logits_distillation import LogitsDistillation
from keras_kicks.models.compared_outputs import expect_logits, expect_same_inputs, selected, shapes, weight_of
from keras_kicks.models.keras_distillation import adapted
from keras_kicks.models.known_shape import output_shape
from keras_kicks.models.output_taps import OutputTaps
from keras_kicks.models.sample_mean import sample_mean
from keras_kicks.models.taught_data import expect_visitable, split, teach
from keras_kicks.models.teachers import Teachers, listed, weights_for
from keras_kicks.ops.keras_mask import get_mask
from keras_kicks.ops.replicas import replica_count


@keras.saving.register_keras_serializable(package="keras_kicks")
class Distiller(keras.Model):
    """Trains a student on labels and on what teachers compute for the same samples.

        loss = w hard + (1 - w) sum_i w_i soft_i + regularizers,   w = student_loss_weight

    `hard` is the loss given to `compile`; each `soft_i` is a distillation loss, averaged over the teachers where it
    is not bound to one of them. Sample weights, class weights and masks count in both. The teachers run in inference
    mode; they are not changed, not trained and not saved: a loaded distiller predicts, and trains on once its
    `teacher` is set again. Besides the compiled metrics it reports `hard_loss`, `soft_loss` and `agreement`, the
    share of samples for which the student's largest output is that of the teachers (of the mean of their outputs).

    Args:
        teacher: A trained model, or a list of them.
        student: The model to train, on the same inputs.
        distillation_losses: A `keras_kicks.losses.DistillationLoss` or a list of them. Those of
            `keras.distillation` are taken too: LogitsDistillation and FeatureDistillation become ours, others are
            called as they are and know no sample weights.
        distillation_loss_weights: Weight of each of them, >= 0; 1 by default.
        student_loss_weight: w, in [0, 1]. With 0 neither labels nor a compiled loss are needed.
        teacher_weights: Weight of each teacher, >= 0, scaled to the sum 1; equal by default.
        name: Name of the model.
        **kwargs: Base model arguments.

    Call arguments:
        inputs: What the student takes.
        training: Whether the student is trained.

    Returns:
        The student's output.

    Raises:
        TypeError: a teacher or the student is no Keras model, a loss no distillation loss, a weight no number.
        ValueError: expected a weight >= 0 for each loss and each teacher; 0 <= student_loss_weight <= 1; teachers and
            a student that take inputs of the same shape; outputs or named layers that a loss can compare; logits, not
            probabilities, where a loss takes logits.

    Source:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.

    Example:
        >>> import numpy as np
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = Distiller(teacher, student, LogitsDistillation(temperature=2.0))
        >>> distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = distiller.fit(np.ones((8, 4)), np.zeros(8), verbose=0)
        >>> sorted(history.history)
        ['agreement', 'hard_loss', 'loss', 'soft_loss']
        >>> distiller.export_student() is student
        True
    """

    def __init__(
        self,
        teacher,
        student,
        distillation_losses,
        distillation_loss_weights=None,
        student_loss_weight=0.5,
        teacher_weights=None,
        name="distiller",
        **kwargs,
    ):
        owner = type(self).__name__
        expect(isinstance(student, keras.Model), owner, "a keras model as student", error=TypeError, student=student)
        expect_number(owner, student_loss_weight=student_loss_weight)
        in_range = 0 <= student_loss_weight <= 1
        expect(in_range, owner, "0 <= student_loss_weight <= 1", student_loss_weight=student_loss_weight)
        # The student's policy, for `compile` to scale the loss of a float16 student.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(name=name, **kwargs)
        # The student casts its inputs itself, and the teachers see them as they are.
        self.autocast = False
        losses = listed(distillation_losses)
        expect(len(losses) > 0, owner, "a distillation loss or a list of them", distillation_losses=losses)
        self.distillation_losses = [adapted(loss, owner) for loss in losses]
        self.distillation_loss_weights = weights_for(
            len(losses), owner, distillation_loss_weights=distillation_loss_weights
        )
        self.student_loss_weight = float(student_loss_weight)
        self.student = student
        self.train_steps = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int",
            trainable=False,
            name="train_steps",
            aggregation="only_first_replica",
        )
        self.hard_loss_tracker = keras.metrics.Mean(name="hard_loss")
        self.soft_loss_tracker = keras.metrics.Mean(name="soft_loss")
        self.agreement_tracker = keras.metrics.Mean(name="agreement")
        self.teacher_weights = teacher_weights if teacher_weights is None else listed(teacher_weights)
        self._taps = OutputTaps(student, self._layers_of("student"), owner, "student")
        self._unmeasured = frozenset({"hard_loss", "agreement"})
        self._teachers = None
        if teacher is not None:
            self.teacher = teacher
        self.built = student.built

    def __setattr__(self, name, value):
        # Past Keras's tracking, by which every model that is assigned becomes a part of this one.
        if name == "teacher":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __dir__(self):
        # Keras saves the models among an object's attributes as `dir` lists them.
        return [name for name in super().__dir__() if name != "teacher"]

    def _layers_of(self, role):
        names = {getattr(loss, f"{role}_layer_name") for loss in self.distillation_losses}
        return sorted(names - {None})

    @property
    def teacher(self):
        """The teacher or the list of teachers; None in a loaded distiller until it is set."""
        if self._teachers is None:
            return None
        return self._teachers.models if self._several else self._teachers.models[0]

    @teacher.setter
    def teacher(self, teacher):
        owner = type(self).__name__
        models = listed(teacher)
        known = bool(models) and all(isinstance(model, keras.Model) for model in models)
        expect(known, owner, "a keras model or a list of them as teacher", error=TypeError, teacher=teacher)
        for model in models:
            expect_same_inputs(owner, model, self.student)
        for loss in self.distillation_losses:
            index = loss.teacher_index
            fits = index is None or 0 <= index < len(models)
            expect(fits, owner, "the index of a teacher", teacher_index=index, teachers=len(models))
        teachers = Teachers(models, self._layers_of("teacher"), self.teacher_weights, owner)
        student, outputs = self._taps.spec(), teachers.spec()
        if student is not None and outputs is not None:
            self._build_losses(student, outputs, teachers)
        self._several = isinstance(teacher, (list, tuple))
        self._teachers = teachers

    def _build_losses(self, student, teachers, models):
        """Check all losses, then build each for the outputs it compares; raise where one cannot compare them."""
        owner = type(self).__name__
        pairs = []
        for loss in self.distillation_losses:
            logits = isinstance(loss, LogitsDistillation) and loss.from_logits
            output = selected(loss, student, "student", owner)
            if logits:
                expect_logits(owner, output, student=self.student.name)
            shape = shapes(output)
            for index in range(len(models)) if loss.teacher_index is None else [loss.teacher_index]:
                output = selected(loss, teachers[index], "teacher", owner)
                if logits:
                    expect_logits(owner, output, teacher=models.models[index].name)
                loss.check(shapes(output), shape)
                pairs.append((loss, shapes(output), shape))
        for loss, *pair in pairs:
            if loss.built:
                loss.check(*pair)
            else:
                loss.build(*pair)

    def _teachers_of(self, loss):
        return range(len(self._teachers)) if loss.teacher_index is None else [loss.teacher_index]

    def call(self, inputs, training=None):
        """Return the student's output."""
        inputs, _ = split(inputs)
        outputs = self._taps(inputs, training)
        if self._teachers is not None and not all(loss.built for loss in self.distillation_losses):
            self._build_losses(outputs, self._teachers(inputs), self._teachers)
        # Kept for `compute_loss`, which is next in the same step: a second pass would draw other dropout masks.
        self._taps.latest = outputs
        return outputs["output"]

    def compute_output_shape(self, input_shape):
        """Return the student's output shape."""
        return output_shape(self.student, input_shape)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of a batch, and update the metrics."""
        owner = type(self).__name__
        self._expect_teachers()
        inputs, taught = split(x)
        student, self._taps.latest = self._taps.latest, None
        if student is None or student["output"] is not y_pred:
            student = self._taps(inputs, training)
        teachers = self._teachers(inputs) if taught is None else self._teachers.unpacked(taught, inputs)
        replicas = replica_count()
        count = ops.shape(keras.tree.flatten(inputs)[0])[0]
        penalties = sum((ops.sum(loss) for loss in self.losses), start=0.0) / replicas
        soft = self._soft_loss(teachers, student, sample_weight, training)
        total = penalties + (1 - self.student_loss_weight) * soft
        if y is not None and self.loss is not None:
            hard = super().compute_loss(x, y, y_pred, sample_weight, training) - penalties
            self._unmeasured -= {"hard_loss"}
            self.hard_loss_tracker.update_state(hard * replicas, sample_weight=count)
            total = total + self.student_loss_weight * hard
        else:
            unlabelled = self.student_loss_weight == 0
            remedy = "Pass both, or set student_loss_weight=0."
            expect(unlabelled, owner, "labels and a compiled loss", remedy, y=y, loss=self.loss)
        self.soft_loss_tracker.update_state(soft * replicas, sample_weight=count)
        self._update_agreement(teachers, student)
        if training:
            self.train_steps.assign_add(1)
        return total

    def _expect_teachers(self):
        remedy = "A distiller is loaded without its teachers: set `distiller.teacher`."
        expect(self._teachers is not None, type(self).__name__, "a teacher", remedy, teacher=None)

    def _soft_loss(self, teachers, student, sample_weight, training):
        owner = type(self).__name__
        total = 0.0
        for loss, loss_weight in zip(self.distillation_losses, self.distillation_loss_weights, strict=True):
            outputs = selected(loss, student, "student", owner)
            indices = self._teachers_of(loss)
            weights = [self._teachers.weights[i] if len(indices) > 1 else 1.0 for i in indices]
            weight = weight_of(loss, sample_weight)
            for index, teacher_weight in zip(indices, weights, strict=True):
                target = selected(loss, teachers[index], "teacher", owner)
                values = loss(target, outputs, sample_weight=weight, step=self.train_steps.value)
                each = loss.per_sample
                mean = sample_mean(values, weight, get_mask(outputs)) if each else values / replica_count()
                total = total + loss_weight * teacher_weight * mean
        return total

    def _update_agreement(self, teachers, student):
        """Count the samples for which the largest output of the student is that of the teachers."""
        outputs = keras.tree.flatten(student["output"])
        targets = [keras.tree.flatten(teacher["output"]) for teacher in teachers]
        for i, output in enumerate(outputs):
            columns = [target[i] for target in targets if len(target) > i]
            if output.shape[-1] == 1 or any(column.shape[-1] != output.shape[-1] for column in columns):
                continue
            mean = sum(w * ops.cast(c, "float32") for w, c in zip(self._teachers.weights, columns, strict=True))
            same = ops.equal(ops.argmax(output, axis=-1), ops.argmax(mean, axis=-1))
            self._unmeasured -= {"agreement"}
            self.agreement_tracker.update_state(ops.cast(same, "float32"), sample_weight=get_mask(output))

    def get_metrics_result(self):
        """Return the results of the metrics but for those that the outputs and labels have nothing to say about."""
        results = super().get_metrics_result()
        return {name: value for name, value in results.items() if name not in self._unmeasured}

    def fit(self, *args, teacher_cache=None, **kwargs):
        """Train the student, as `keras.Model.fit` does.

        Args:
            *args: As in `keras.Model.fit`.
            teacher_cache: None to run the teachers in every step; "memory", or the path of a directory, to run them
                once for each sample and reuse what they compute in later epochs and calls, also for
                `validation_data`. Samples are told by their contents: training data must be finite and the same in
                every epoch, but may be shuffled. A dataset is visited once before training, so that one that
                reshuffles begins with its second order. A directory is reused by later runs with the same teachers,
                and an interrupted run is taken up where it stopped. Outputs for arrays are held in memory; for a
                dataset they are read from the directory.
            **kwargs: As in `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            TypeError: with a cache: data that is neither arrays, a `tf.data.Dataset` of dense tensors nor a
                `keras.utils.PyDataset`; a cache that is neither "memory" nor a path.
            ValueError: expected a teacher; with a cache also data of known, finite length, the same samples in every
                epoch, teachers that are built, and a directory that is new, empty or a cache of these teachers.
        """
        if teacher_cache is None:
            return super().fit(*args, **kwargs)
        self._expect_teachers()
        arguments = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        validation = arguments.get("validation_data")
        expect_visitable(arguments.get("x"))
        if validation is not None:
            expect_visitable(validation[0] if isinstance(validation, (tuple, list)) else validation)
        cache = self._teachers.cache(teacher_cache)
        arguments["x"] = teach(arguments.get("x"), cache, arguments.get("batch_size"))
        if isinstance(validation, (tuple, list)):
            x, *rest = validation
            batch_size = arguments.get("validation_batch_size") or arguments.get("batch_size")
            arguments["validation_data"] = (teach(x, cache, batch_size), *rest)
        elif validation is not None:
            arguments["validation_data"] = teach(validation, cache)
        return super().fit(**arguments)

    def export_student(self, path=None):
        """Return the student; with a path, also save it there, whole or not at all.

        Args:
            path: Path of a `.keras` file, or None.

        Returns:
            The student, a model of its own.

        Raises:
            TypeError: `path` is no path.
            ValueError: expected a path that ends in .keras.
        """
        if path is not None:
            owner = type(self).__name__
            expect(isinstance(path, (str, os.PathLike)), owner, "a path", error=TypeError, path=path)
            path = os.fspath(path)
            expect(path.endswith(".keras"), owner, "a path that ends in .keras", path=path)
            partial = f"{path[:-6]}.partial-{os.getpid()}.keras"
            try:
                self.student.save(partial)
                os.replace(partial, path)
            finally:
                if os.path.exists(partial):
                    os.remove(partial)
        return self.student

    def get_config(self):
        """Return the constructor arguments but for the teacher."""
        config = {
            "teacher": None,
            "student": keras.saving.serialize_keras_object(self.student),
            "distillation_losses": [keras.saving.serialize_keras_object(loss) for loss in self.distillation_losses],
            "distillation_loss_weights": list(self.distillation_loss_weights),
            "student_loss_weight": self.student_loss_weight,
            "teacher_weights": self.teacher_weights if self.teacher_weights is None else list(self.teacher_weights),
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild from `get_config`, without a teacher."""
        revive = keras.saving.deserialize_keras_object
        losses = [revive(loss, custom_objects=custom_objects) for loss in config["distillation_losses"]]
        student = revive(config["student"], custom_objects=custom_objects)
        return cls(**{**config, "student": student, "distillation_losses": losses})
