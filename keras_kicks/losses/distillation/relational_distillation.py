"""Relations: how samples lie to each other in the student, towards how they lie in the teacher."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.losses.distillation.distillation_loss import DistillationLoss
from keras_kicks.ops.replicas import gather_replicas, own_rows


@keras.saving.register_keras_serializable(package="keras_kicks")
class RelationalDistillation(DistillationLoss):
    """Huber distance between the relations of samples in two embeddings: pairwise distances and angles of triples.

        distance: psi(i, j) = ||x_i - x_j|| / mean over pairs of ||x_i - x_j||
        angle:    psi(i, j, k) = cos of the angle at x_j between x_i - x_j and x_k - x_j
        loss_j = distance_weight mean_i huber(psi_T - psi_S) + angle_weight mean_ik huber(psi_T - psi_S)

    The relations are those of a batch, under tf.distribute of the global batch, so that replicas do not change the
    loss. The dimensions of the embeddings may differ. Memory grows with the cube of the batch if `angle_weight` > 0.

    Args:
        teacher_layer_name: Layer of the teacher; None for its output.
        student_layer_name: Layer of the student; None for its output.
        distance_weight: Weight of the distances, >= 0.
        angle_weight: Weight of the angles, >= 0.
        output: Key or index of the output to compare, where models have several and no layer is named.
        teacher_index: Index of the teacher to compare, where there are several; None for each of them.
        **kwargs: Base layer arguments.

    Call arguments:
        teacher_outputs: Shape (batch, ...); flattened.
        student_outputs: Shape (batch, ...); flattened.
        sample_weight: Shape (batch,): a relation counts with the product of the weights of its other samples, and
            the distiller weights the sample itself.
        step: Not used.

    Returns:
        Shape (batch,), float32.

    Raises:
        TypeError: a weight is no number.
        ValueError: expected distance_weight >= 0 and angle_weight >= 0, not both 0; embeddings of rank 2 or more.

    Source:
        Park, Kim, Lu and Cho, "Relational Knowledge Distillation", 2019, arXiv:1904.05068. Departure: means over
        relations of distinct samples instead of sums.

    Example:
        >>> import numpy as np
        >>> loss = RelationalDistillation()
        >>> x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> [abs(round(float(v), 5)) for v in loss(x, 3 * x[:, ::-1] + 1)]  # relations survive a similarity
        [0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        teacher_layer_name=None,
        student_layer_name=None,
        distance_weight=25.0,
        angle_weight=50.0,
        output=None,
        teacher_index=None,
        **kwargs,
    ):
        owner = type(self).__name__
        expect_number(owner, distance_weight=distance_weight, angle_weight=angle_weight)
        expect(
            distance_weight >= 0 and angle_weight >= 0 and distance_weight + angle_weight > 0,
            owner,
            "distance_weight >= 0 and angle_weight >= 0, not both 0",
            distance_weight=distance_weight,
            angle_weight=angle_weight,
        )
        super().__init__(teacher_layer_name, student_layer_name, output, teacher_index, **kwargs)
        self.distance_weight = float(distance_weight)
        self.angle_weight = float(angle_weight)

    def check(self, teacher_outputs_shape, student_outputs_shape):
        """Raise unless both are embeddings."""
        teacher, student = tuple(teacher_outputs_shape), tuple(student_outputs_shape)
        fits = len(teacher) >= 2 and len(student) >= 2
        self.expect_fit(fits, "embeddings of rank 2 or more", "", teacher, student)

    def call(self, teacher_outputs, student_outputs, sample_weight=None, step=None):
        """Return the loss of the relations that each sample is in."""
        teacher, student = _flat(teacher_outputs), _flat(student_outputs)
        weight = ops.ones_like(teacher[:, 0]) if sample_weight is None else ops.cast(sample_weight, "float32")
        weight = gather_replicas(weight)
        teachers, students = _Relations(gather_replicas(teacher)), _Relations(gather_replicas(student))
        distinct = 1.0 - ops.eye(ops.shape(weight)[0], dtype="float32")
        partners = own_rows(distinct * weight[None, :], teacher)
        loss = 0.0
        if self.distance_weight > 0:
            pairs = distinct * weight[:, None] * weight[None, :]
            difference = own_rows(teachers.distances(pairs) - students.distances(pairs), teacher)
            loss = loss + self.distance_weight * _mean(_huber(difference), partners, axis=1)
        if self.angle_weight > 0:
            triples = partners[:, :, None] * partners[:, None, :] * distinct[None]
            difference = teachers.angles(teacher) - students.angles(teacher)
            loss = loss + self.angle_weight * _mean(_huber(difference), triples, axis=(1, 2))
        return loss

    def get_config(self):
        """Return the constructor arguments."""
        config = {"distance_weight": self.distance_weight, "angle_weight": self.angle_weight}
        return {**super().get_config(), **config}


class _Relations:
    """Distances and angles of the rows of a matrix, from their inner products."""

    def __init__(self, x):
        # Relations do not change by a shift; centred, the squared distances cancel less.
        x = x - ops.mean(x, axis=0, keepdims=True)
        self.products = ops.matmul(x, ops.transpose(x))
        norms = ops.sum(ops.square(x), axis=1)
        self.norms = norms
        squares = norms[:, None] + norms[None, :] - 2.0 * self.products
        # Where two rows are equal (each and itself, say) the relation is 0 and has no gradient. Less than this share of
        # the norms is what float32 leaves of equal rows.
        self.apart = squares > 1e-6 * (norms[:, None] + norms[None, :])
        self.squares = ops.where(self.apart, squares, 1.0)

    def distances(self, pairs):
        """Distances over their mean, weighted by `pairs`."""
        distances = ops.where(self.apart, ops.sqrt(self.squares), 0.0)
        return distances / ops.maximum(_mean(distances, pairs, axis=(0, 1)), 1e-30)

    def angles(self, own):
        """Cosines (j, i, k) at the vertex j, for the rows j that belong to `own`."""
        inverse = own_rows(ops.where(self.apart, ops.rsqrt(self.squares), 0.0), own)
        products, norms = own_rows(self.products, own), own_rows(self.norms, own)
        inner = self.products[None] - products[:, :, None] - products[:, None, :] + norms[:, None, None]
        return inner * inverse[:, :, None] * inverse[:, None, :]


def _flat(embeddings):
    embeddings = ops.cast(embeddings, "float32")
    return embeddings if len(embeddings.shape) == 2 else ops.reshape(embeddings, (ops.shape(embeddings)[0], -1))


def _huber(difference):
    size = ops.abs(difference)
    return ops.where(size < 1.0, 0.5 * ops.square(size), size - 0.5)


def _mean(values, weights, axis):
    return ops.divide_no_nan(ops.sum(values * weights, axis=axis), ops.sum(weights, axis=axis))
