"""Text as characters: nothing is lost, nothing is known beforehand, and streams go on."""

import numpy as np
import pytest

from keras_kicks.datasets.characters import characters, streams


def test_the_text_that_comes_with_python():
    data = characters()
    text = data.decode(data.train)
    assert "Assert statements are a convenient way to insert debugging assertions" in text
    assert len(data.train) > 300_000
    assert 0.099 < len(data.test) / (len(data.test) + len(data.train)) < 0.101
    np.testing.assert_array_equal(characters().train, data.train)
    test = data.decode(data.test)
    windows = [test[i : i + 60] for i in range(0, len(test) - 60, 60)]
    assert np.mean([window in text for window in windows]) < 0.02


def test_the_text_of_a_string_and_of_a_file(tmp_path):
    text = "Die Würde des Menschen ist unantastbar. " * 5
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    for source in (text, path):
        data = characters(source, test_share=0.2)
        assert data.decode(data.train) + data.decode(data.test) == text
        assert len(data.vocabulary) == len(set(text)) + 1


def test_what_the_first_part_does_not_have_is_unknown():
    data = characters("aaaab", test_share=0.2)
    assert data.vocabulary == "\N{REPLACEMENT CHARACTER}a"
    np.testing.assert_array_equal(data.test, [0])


@pytest.mark.parametrize(("length", "count", "steps"), [(100, 4, 5), (101, 1, 10), (61, 3, 20), (13, 12, 1)])
def test_rows_of_following_batches_are_one_text(length, count, steps):
    ids = np.arange(length)
    x, y = streams(ids, count, steps)
    np.testing.assert_array_equal(y, x + 1)
    batches = x.reshape(-1, count, steps)
    for row in range(count):
        stream = batches[:, row].ravel()
        np.testing.assert_array_equal(np.diff(stream), 1)
    # No character is in two places, and less than a batch is dropped.
    assert len(set(x.ravel())) == x.size
    assert length - 1 - x.size < count * steps


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: characters(5), TypeError, "characters: expected None, a string or a path for text; got kind='int'"),
        (lambda: characters("abc", 1.0), ValueError, "0 < test_share < 1; got test_share=1.0"),
        (lambda: characters("a"), ValueError, "a text with characters to train on and to test on; got characters=1"),
        (lambda: characters(""), ValueError, "got characters=0"),
        (lambda: streams(range(10), 2, 5), ValueError, "at least count \\* steps \\+ 1 ids"),
        (lambda: streams(np.zeros((20, 2)), 2, 5), ValueError, "at least count"),
        (lambda: streams(range(10), 0, 5), ValueError, "streams: expected count >= 1"),
        (lambda: streams(range(10), 2, 0), ValueError, "steps >= 1"),
        (lambda: streams(range(10), 1.5, 2), TypeError, "an integer for count"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        characters(tmp_path / "nothing.txt")
