"""Text as characters, from the Python distribution or of one's own, and cut into streams."""

import dataclasses
import os

import numpy as np

from keras_kicks._errors import expect, expect_integer, expect_number

# Stands for what the training part does not have.
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


@dataclasses.dataclass(frozen=True)
class Characters:
    """A text as ids.

    Args:
        train: ids of the first part, int32, shape (characters,).
        test: ids of the rest.
        vocabulary: The character of each id; the first stands for all that the first part does not have.
    """

    train: np.ndarray
    test: np.ndarray
    vocabulary: str

    def decode(self, ids):
        """Return the text of ids.

        Args:
            ids: Integers from 0 to len(vocabulary) - 1.

        Returns:
            A string.
        """
        return "".join(self.vocabulary[index] for index in ids)


def characters(text=None, test_share=0.1):
    """Return a text as ids of its characters, the first part to train on and the rest to test on.

    The vocabulary is that of the first part, so that nothing of the rest is known.

    Args:
        text: A string, the path of a file in UTF-8, or None for the help texts on the Python language that come with
            Python (the module `pydoc_data.topics`; license of the Python Software Foundation), read where they are,
            each paragraph once.
        test_share: Share of the text to test on, in (0, 1).

    Returns:
        A `Characters`.

    Raises:
        TypeError: `text` is neither None, a string nor a path; `test_share` is no number.
        ValueError: expected 0 < test_share < 1; a text that has characters in both parts.
        OSError: the file cannot be read.

    Source:
        Characters as a task of recurrent networks: Sutskever, Martens and Hinton 2011.

    Example:
        >>> data = characters("abracadabra!", test_share=0.25)
        >>> data.vocabulary[1:], data.decode(data.train), data.test.tolist()
        ('abcdr', 'abracadab', [5, 1, 0])
    """
    owner = "characters"
    known = text is None or isinstance(text, (str, os.PathLike))
    expect(known, owner, "None, a string or a path for text", error=TypeError, kind=type(text).__name__)
    expect_number(owner, test_share=test_share)
    expect(0 < test_share < 1, owner, "0 < test_share < 1", test_share=test_share)
    if text is None:
        text = _python_help()
    elif isinstance(text, os.PathLike):
        with open(text, encoding="utf-8") as file:
            text = file.read()
    edge = round(len(text) * (1 - test_share))
    rule = "a text with characters to train on and to test on"
    expect(0 < edge < len(text), owner, rule, characters=len(text), test_share=test_share)
    vocabulary = UNKNOWN + "".join(sorted(set(text[:edge]) - {UNKNOWN}))
    index = {character: i for i, character in enumerate(vocabulary)}
    ids = np.array([index.get(character, 0) for character in text], "int32")
    return Characters(ids[:edge], ids[edge:], vocabulary)


def streams(ids, count, steps):
    """Cut a text into streams side by side, and those into batches that follow each other.

    Row r of batch b + 1 goes on where row r of batch b ended: what `stateful` training wants. The labels are the
    next characters. What is left at the end is dropped.

    Args:
        ids: Integers, shape (characters,).
        count: Number of streams, the batch size, >= 1.
        steps: Steps of a batch, >= 1.

    Returns:
        x and y of shape (batches * count, steps), for `fit` with batch_size=count and shuffle=False.

    Raises:
        TypeError: `count` or `steps` is no integer.
        ValueError: expected count >= 1 and steps >= 1; at least count * steps + 1 ids, of one axis.

    Source:
        Merity, Keskar and Socher 2017, arXiv:1708.02182, and others before.

    Example:
        >>> x, y = streams(range(13), count=2, steps=3)
        >>> x.tolist()
        [[0, 1, 2], [6, 7, 8], [3, 4, 5], [9, 10, 11]]
        >>> y[0].tolist()
        [1, 2, 3]
    """
    owner = "streams"
    ids = np.asarray(ids)
    expect_integer(owner, count=count, steps=steps)
    expect(count >= 1, owner, "count >= 1", count=count)
    expect(steps >= 1, owner, "steps >= 1", steps=steps)
    enough = ids.ndim == 1 and len(ids) > count * steps
    expect(enough, owner, "at least count * steps + 1 ids", shape=ids.shape, count=count, steps=steps)
    batches = (len(ids) - 1) // (count * steps)
    length = batches * steps

    def cut(first):
        rows = ids[first : first + count * length].reshape(count, batches, steps)
        return np.ascontiguousarray(rows.swapaxes(0, 1).reshape(batches * count, steps))

    return cut(0), cut(1)


def _python_help():
    from pydoc_data import topics

    paragraphs = (part.strip("\n") for name in sorted(topics.topics) for part in topics.topics[name].split("\n\n"))
    # Topics quote each other: each paragraph once, or what is tested on would have been read.
    return "\n\n".join(dict.fromkeys(part for part in paragraphs if part.strip()))
