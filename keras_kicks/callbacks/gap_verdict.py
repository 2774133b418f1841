"""What learning curves say, in words."""

import numpy as np

# The validation loss after its best epoch is judged by this many epochs at the least.
EPOCHS = 3
# A share of what was gained that is worth a sentence.
NOTABLE = 0.05


def gap_verdict(train, validation, target=None):
    """Return what the curves of a loss say.

    The measure is what training has gained: how far the validation loss had fallen from its first epoch to its best,
    or the training loss from its first to its last if that is more; a loss has no other zero or scale.

    - "overfitting": after its best epoch, the median of the last three validation losses has risen by more than 5 % of
      that, and the training loss has gone on falling;
    - "underfitting": not so, and the training loss is further above `target` than the validation loss is above it;
    - "improving": neither, and the best epoch is one of the last three;
    - "flat": neither, and it is not.

    Args:
        train: Training losses after each epoch, in inference mode.
        validation: Validation losses.
        target: A loss that is known to be within reach, such as that of people; None where none is known. Without it
            the curves cannot tell that a model underfits, since nothing says how low the loss could be.

    Returns:
        The verdict, or "unknown" with less than four epochs or a loss that is not finite; and a sentence why.
    """
    train, validation = np.asarray(train, "float64"), np.asarray(validation, "float64")
    if len(train) <= EPOCHS:
        return "unknown", f"{len(train)} epochs are too few to tell."
    if not (np.isfinite(train).all() and np.isfinite(validation).all()):
        return "unknown", "A loss is not finite."
    best = int(validation.argmin())
    scale = max(validation[0] - validation[best], train[0] - train[-1])
    late = len(train) - 1 - best
    rise = np.median(validation[-EPOCHS:]) - validation[best]
    fall = train[best] - train[-1]
    text = f"The validation loss was best, {validation[best]:.4g}, in epoch {best + 1} of {len(train)}"
    if late >= EPOCHS and fall > 0 and rise > NOTABLE * scale:
        share = f"{rise / scale:.0%} of what training had gained" if scale > 0 else "all that training had gained"
        text += f", and has since risen by {rise:.4g} ({share}) while the training loss fell by {fall:.4g}."
        return "overfitting", text
    if target is not None:
        above, gap = train[-1] - target, validation[-1] - train[-1]
        if above > gap and above > NOTABLE * scale:
            text = f"The training loss, {train[-1]:.4g}, is {above:.4g} above the target"
            return "underfitting", f"{text}, more than the gap to the validation loss, {gap:.4g}."
    return "improving" if late < EPOCHS else "flat", f"{text}; since then it has risen by {rise:.4g}."
