"""How often each member of an ensemble draws each sample."""

import math

import keras
import numpy as np

from keras_kicks._errors import expect
from keras_kicks._seeds import numpy_seed
from keras_kicks.models.cache_keys import sample_keys

# Names of losses of class labels contain one of these.
_OF_CLASSES = ("crossentropy", "hinge", "focal")


def counts_by_position(samples, members, fraction, seed):
    """Return how often each member draws each of so many samples: a bootstrap sample, drawn with replacement.

    Args:
        samples: Number of samples, at least 1.
        members: Number of members. The first of many have the counts of the first of few.
        fraction: Draws as a part of the samples.
        seed: Integer.

    Returns:
        int32 array of shape (samples, members); each column sums to the number of draws, which is rounded and at
        least one.
    """
    draws = max(1, round(fraction * samples))
    columns = []
    for member in range(members):
        drawn = np.random.default_rng([numpy_seed(seed), member]).integers(0, samples, draws)
        columns.append(np.bincount(drawn, minlength=samples))
    return np.stack(columns, axis=1).astype("int32")


def counts_by_content(data, members, fraction, seed):
    """Return counts that are a function of what is in a sample, whatever its place and batch.

    They are independent Poisson numbers of mean `fraction`, which the counts of a bootstrap sample become where there
    are many samples. Samples of equal content have equal counts.

    Args:
        data: Nested arrays of a batch.
        members: Number of members.
        fraction: Mean of a count.
        seed: Integer.

    Returns:
        int32 array of shape (samples, members).
    """
    keys = np.frombuffer(b"".join(sample_keys(data)), "<u8").reshape(-1, 2)
    streams = _mixed(
        np.arange(1, members + 1, dtype="uint64") * np.uint64(0x9E3779B97F4A7C15) + np.uint64(numpy_seed(seed))
    )
    bits = _mixed(_mixed(keys[:, :1] ^ streams) ^ keys[:, 1:])
    uniform = (bits >> np.uint64(11)) * 2.0**-53
    return np.searchsorted(_poisson_distribution(fraction), uniform, side="right").astype("int32")


def expect_both_classes(owner, y, counts, loss):
    """Raise unless each member draws both classes of two.

    Args:
        owner: Name of the class that asks.
        y: Labels: ids, or one column or row of indicators for a sample. Others are not looked at.
        counts: Array of shape (samples, members).
        loss: What a model is compiled with. Labels are those of classes if its name says so.

    Raises:
        ValueError: expected both classes in the bootstrap sample of each member.
    """
    classes = _class_ids(y, loss)
    if classes is None or len(classes) != len(counts):
        return
    values = np.unique(classes)
    if len(values) != 2:
        return
    for member in range(counts.shape[1]):
        missing = np.setdiff1d(values, classes[counts[:, member] > 0]).tolist()
        rule = "both classes in the bootstrap sample of each member"
        remedy = "Give more samples of this class, a larger bootstrap fraction, another seed, or bootstrap=False."
        expect(not missing, owner, rule, remedy, member=member, missing=missing)


def expect_votes(owner, y, loss):
    """Raise if labels are numbers, for which there is no vote.

    Raises:
        ValueError: expected labels of classes for combine='vote'.
    """
    if _is_of_classes(loss) or keras.tree.is_nested(y) or y is None:
        return
    y = np.asarray(y)
    if y.dtype.kind != "f":
        return
    numbers = (y != np.round(y)) & ((y < 0) | (y > 1))
    rule, remedy = "labels of classes for combine='vote'", "Pass combine='mean' for numbers."
    expect(not numbers.any(), owner, rule, remedy, labels=[float(number) for number in y[numbers][:3]])


def _is_of_classes(loss):
    return any(part in _loss_name(loss) for part in _OF_CLASSES)


def _loss_name(loss):
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return str(name).replace("_", "").lower()


def _class_ids(y, loss):
    """Return one class for each sample, or None where labels are no classes or several to a sample."""
    name = _loss_name(loss)
    if keras.tree.is_nested(y) or y is None or not _is_of_classes(loss):
        return None
    y = np.asarray(y)
    if y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
        return y.reshape(-1)
    one_hot = y.ndim == 2 and "sparse" not in name and "binary" not in name
    return np.argmax(y, axis=1) if one_hot else None


def _mixed(x):
    """Spread 64 bits over all of them: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _poisson_distribution(mean):
    """Return P(count <= k) for k = 0, 1, … until it is 1 in float64."""
    terms = [math.exp(-mean)]
    while terms[-1] > 1e-20 * terms[0] or len(terms) < mean:
        terms.append(terms[-1] * mean / len(terms))
    return np.cumsum(terms)
