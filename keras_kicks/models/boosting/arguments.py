"""What boosting takes, and what its learners return."""

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_number, expect_seed
from keras_kicks.models.boosting.rounds import CLASSIFIERS

LOSSES = {
    "samme": (None,),
    "samme.r": (None,),
    "r2": ("linear", "square", "exponential"),
    "gradient": ("squared_error", "absolute_error", "huber"),
}


def expect_count(owner, n, name="n"):
    """Raise unless n is an integer >= 1."""
    expect_integer(owner, **{name: n})
    expect(n >= 1, owner, f"{name} >= 1", **{name: n})


def check_arguments(owner, n, algorithm, boosting_loss, learning_rate, subsample, resample, huber_quantile, seed):
    """Raise unless the arguments fit together; return the loss by its name."""
    expect_count(owner, n)
    expect_choice(owner, tuple(LOSSES), algorithm=algorithm)
    boosting_loss = LOSSES[algorithm][0] if boosting_loss is None else boosting_loss
    expect_choice(owner, LOSSES[algorithm], boosting_loss=boosting_loss)
    expect_number(owner, learning_rate=learning_rate, subsample=subsample, huber_quantile=huber_quantile)
    expect(learning_rate > 0, owner, "learning_rate > 0", learning_rate=learning_rate)
    expect(0 < subsample <= 1, owner, "0 < subsample <= 1", subsample=subsample)
    expect(0 < huber_quantile < 1, owner, "0 < huber_quantile < 1", huber_quantile=huber_quantile)
    possible, remedy = subsample == 1 or algorithm == "gradient", "It weighs all samples in each round."
    expect(possible, owner, 'subsample=1 but for algorithm="gradient"', remedy, subsample=subsample)
    possible, remedy = not resample or algorithm != "gradient", "Pass subsample: its samples keep their weights."
    expect(possible, owner, 'resample=False for algorithm="gradient"', remedy, resample=resample)
    expect_seed(owner, seed)
    return boosting_loss


def check_outputs(owner, algorithm, shape):
    """Return the shape of a learner's output; raise unless the algorithm can use it."""
    single = isinstance(shape, (list, tuple)) and all(size is None or isinstance(size, int) for size in shape)
    expect(single, owner, "a learner with a single output", outputs=shape)
    if algorithm in CLASSIFIERS:
        rule, remedy = "a learner with an output for each of K >= 2 classes", "End it with Dense(K), also for K=2."
        expect(len(shape) == 2 and (shape[1] or 0) >= 2, owner, rule, remedy, outputs=tuple(shape))
    if algorithm == "r2":
        rule, remedy = 'a learner with outputs of shape (batch, 1) for "r2"', 'Take "gradient" for several.'
        expect(tuple(shape[1:]) == (1,), owner, rule, remedy, outputs=tuple(shape))
    expect(None not in shape[1:], owner, "a learner whose outputs have a known shape", outputs=tuple(shape))
    return tuple(shape)
