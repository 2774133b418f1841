"""Labels of classes as ids, whatever their form."""

import numpy as np

from keras_kicks._errors import expect


def class_ids(owner, y, classes):
    """Return labels as ids, an int64 array of shape (samples,).

    Args:
        owner: Name of who asks.
        y: Ids, of shape (samples,) or (samples, 1), or one-hot rows.
        classes: Number of classes.

    Raises:
        ValueError: expected class ids in [0, classes), or one-hot rows of as many columns.
    """
    y = np.asarray(y)
    remedy = "Map other labels to ids first, as np.unique(y, return_inverse=True) does."
    numeric = y.dtype.kind in "biuf"
    expect(numeric, owner, f"class ids in [0, {classes}), or one-hot rows", remedy, dtype=str(y.dtype))
    if y.ndim == 2 and y.shape[1] == classes and classes > 1:
        one_hot = bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())
        expect(one_hot, owner, "one-hot rows: a single 1 in each", "Soft labels have no class.", first=y[0].tolist())
        return np.argmax(y, axis=1)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    rule = f"class ids of shape (samples,), or one-hot rows of {classes} columns"
    expect(y.ndim == 1, owner, rule, shape=y.shape)
    wrong = y[~((y == np.floor(y)) & (y >= 0) & (y < classes))]
    expect(len(wrong) == 0, owner, f"class ids in [0, {classes})", remedy, found=np.unique(wrong)[:3].tolist())
    return y.astype("int64")
