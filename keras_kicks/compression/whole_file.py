"""Files that are there whole or not at all."""

import contextlib
import os
import shutil
import tempfile

from keras_kicks._errors import expect


@contextlib.contextmanager
def whole_file(path):
    """Give a path to write to, whose file gets its name when all is written.

    If the block fails nothing is left, and a file that was there before is as it was. A killed process may leave a
    directory `.partial-*` beside the file.

    Args:
        path: The file to write or replace, in a directory that exists. A link is followed.

    Yields:
        Path of a file that is not there yet.
    """
    target = os.path.realpath(path)
    scratch = tempfile.mkdtemp(prefix=".partial-", dir=os.path.dirname(target))
    try:
        partial = os.path.join(scratch, "data")
        yield partial
        os.replace(partial, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def expect_target(owner, path, suffix):
    """Return a path as a string; raise unless a file with this suffix can be written there."""
    expect(isinstance(path, (str, os.PathLike)), owner, "a path", error=TypeError, path=path)
    path = os.fspath(path)
    expect(path.endswith(suffix), owner, f"a path that ends with {suffix}", path=path)
    expect(not os.path.isdir(path), owner, "the path of a file", "This is a directory.", path=path)
    folder = os.path.dirname(path) or "."
    expect(os.path.isdir(folder), owner, "a directory that exists", "Make it first.", directory=folder)
    return path


def expect_source(owner, path):
    """Return a path as a string; raise unless there is a file."""
    expect(isinstance(path, (str, os.PathLike)), owner, "a path", error=TypeError, path=path)
    path = os.fspath(path)
    expect(os.path.isfile(path), owner, "a file that exists", path=path)
    return path
