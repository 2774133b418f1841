"""Small pictures of curves, drawn in NumPy, so that a component can show itself wherever it is trained."""

import numpy as np

INK, GREY, AXIS = (0.10, 0.25, 0.55), (0.72, 0.72, 0.72), (0.88, 0.88, 0.88)
# Points drawn in each direction for one pixel, to smooth the edges.
SAMPLES = 3


def draw_curves(x, curves, size=96, columns=4):
    """Draw one tile for each set of curves over the same x, the last curve of a set in ink and the others in grey.

    Args:
        x: Increasing numbers, shape (points,).
        curves: Shape (tiles, curves, points).
        size: Height and width of a tile, in pixels.
        columns: Tiles side by side.

    Returns:
        float32 array of shape (height, width, 3), in [0, 1].
    """
    tiles = [_tile(x, np.asarray(tile, "float64"), size) for tile in curves]
    columns = min(columns, len(tiles))
    tiles += [np.ones_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0).astype("float32")


def _tile(x, curves, size):
    fine = size * SAMPLES
    margin = 6 * SAMPLES
    grid = (np.arange(fine) - margin) / (fine - 1 - 2 * margin)
    columns = x[0] + grid * (x[-1] - x[0])
    # The scale of the curve in ink and a quarter below it, where the others run out of the picture.
    low, high = min(curves[-1].min(), 0.0), max(curves[-1].max(), 0.0)
    low -= (high - low) / 4
    height = (high - low) or 1.0
    rows = high - grid * height
    image = np.ones((fine, fine, 3))
    inside = (grid >= 0) & (grid <= 1)
    _paint(image, np.abs(rows)[:, None] / height * fine < SAMPLES, AXIS)
    _paint(image, np.abs(columns)[None, :] / (x[-1] - x[0]) * fine < SAMPLES, AXIS)
    for i, curve in enumerate(curves):
        y = np.interp(columns, x, curve)
        slope = np.gradient(y) / height * fine
        width = (1.8 if i == len(curves) - 1 else 1.0) * SAMPLES / 2 * np.sqrt(1 + slope**2)
        near = np.abs(rows[:, None] - y[None, :]) / height * fine < width[None, :]
        _paint(image, near & inside[None, :], INK if i == len(curves) - 1 else GREY)
    image[:, -SAMPLES:] = image[-SAMPLES:] = AXIS
    return image.reshape(size, SAMPLES, size, SAMPLES, 3).mean(axis=(1, 3))


def _paint(image, where, color):
    image[np.broadcast_to(where, image.shape[:2])] = color
