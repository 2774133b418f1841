"""What teachers compute, kept by sample, in memory or on disk."""

import hashlib
import json
import os
import shutil
import tempfile

import keras
import numpy as np

from keras_kicks._errors import expect

# Bytes of outputs that are gathered before they are written to disk.
SEGMENT_BYTES = 64 * 2**20


class TeacherCache:
    """Outputs of teachers for samples that were seen, looked up by the contents of the sample.

    On disk it is a directory with a `meta.json` and one directory for each segment of samples. A segment is written
    beside its final name and renamed, so that an interrupted run leaves whole segments, and the next run goes on
    after them.

    Args:
        teachers: Function from a batch of inputs to the flat list of the teachers' outputs, as NumPy arrays.
        fingerprint: String that changes with the teachers.
        path: Directory, or None to keep everything in memory.

    Raises:
        ValueError: expected a path that is empty, new, or a cache of the same teachers.
    """

    def __init__(self, teachers, fingerprint, path=None):
        self.teachers = teachers
        self.fingerprint = fingerprint
        self.path = None if path is None else os.fspath(path)
        self._places = {}
        self._segments = []
        self._pending = []
        if self.path is not None:
            self._open()

    def __len__(self):
        return len(self._places)

    def add(self, x):
        """Compute the outputs for the samples of a batch that are not known yet."""
        keys = sample_keys(x)
        new = {key: row for row, key in enumerate(keys) if key not in self._places}
        if not new:
            return
        rows = np.fromiter(new.values(), dtype=int)
        # The whole batch is run, for its outputs to be those that a training step would compute.
        outputs = [np.asarray(output)[rows] for output in self.teachers(x)]
        for row, key in enumerate(new):
            self._places[key] = (len(self._segments), row + self._pending_rows())
        self._pending.append((list(new), outputs))
        if self.path is not None and sum(o.nbytes for _, part in self._pending for o in part) >= SEGMENT_BYTES:
            self.flush()

    def flush(self):
        """Make one segment of what was added since the last one."""
        if not self._pending:
            return
        keys = [key for part, _ in self._pending for key in part]
        columns = [np.concatenate(parts) for parts in zip(*(outputs for _, outputs in self._pending), strict=True)]
        self._segments.append(columns if self.path is None else self._write(keys, columns))
        self._pending = []

    def take(self, x):
        """Return the outputs for a batch of known samples, as a flat list of arrays.

        Raises:
            KeyError: A sample is not known.
        """
        try:
            places = np.array([self._places[key] for key in sample_keys(x)])
        except KeyError:
            raise KeyError(
                "TeacherCache: expected the samples that were there when the cache was filled; got another. Train "
                "without teacher_cache if samples change between epochs, by random augmentation for one."
            ) from None
        segments = places[:, 0]
        if (segments == segments[0]).all():
            return [column[places[:, 1]] for column in self._segments[segments[0]]]
        columns = [np.empty((len(places), *c.shape[1:]), c.dtype) for c in self._segments[0]]
        for segment in np.unique(segments):
            chosen = segments == segment
            for column, source in zip(columns, self._segments[segment], strict=True):
                column[chosen] = source[places[chosen, 1]]
        return columns

    def sample(self):
        """Return the outputs for one sample, for their shapes and dtypes."""
        expect(bool(self._segments), "TeacherCache", "a dataset with a sample in it", samples=0)
        return [column[:1] for column in self._segments[0]]

    def _pending_rows(self):
        return sum(len(keys) for keys, _ in self._pending)

    def _open(self):
        meta = os.path.join(self.path, "meta.json")
        if not os.path.exists(meta):
            empty = not os.path.exists(self.path) or (os.path.isdir(self.path) and not os.listdir(self.path))
            remedy = "Name a new directory."
            expect(empty, "TeacherCache", "a path that is new, empty or a cache", remedy, path=self.path)
            os.makedirs(self.path, exist_ok=True)
            self._rename_into(meta, lambda path: _dump({"format": 1, "teachers": self.fingerprint}, path))
            return
        with open(meta, encoding="utf-8") as file:
            found = json.load(file)
        same = found.get("format") == 1 and found.get("teachers") == self.fingerprint
        remedy = "Name another directory, or delete this one."
        expect(same, "TeacherCache", "a cache of these teachers", remedy, path=self.path)
        for name in sorted(entry for entry in os.listdir(self.path) if entry.isdigit()):
            self._read(os.path.join(self.path, name))

    def _read(self, folder):
        keys = np.load(os.path.join(folder, "keys.npy"))
        count = sum(entry.startswith("output") for entry in os.listdir(folder))
        columns = [np.load(os.path.join(folder, f"output{i}.npy"), mmap_mode="r") for i in range(count)]
        for row, key in enumerate(keys):
            self._places[key.tobytes()] = (len(self._segments), row)
        self._segments.append(columns)

    def _write(self, keys, columns):
        folder = os.path.join(self.path, f"{len(self._segments):06d}")

        def write(partial):
            os.makedirs(partial)
            np.save(os.path.join(partial, "keys.npy"), np.array([list(key) for key in keys], dtype=np.uint8))
            for i, column in enumerate(columns):
                np.save(os.path.join(partial, f"output{i}.npy"), column)

        self._rename_into(folder, write)
        return [np.load(os.path.join(folder, f"output{i}.npy"), mmap_mode="r") for i in range(len(columns))]

    def _rename_into(self, target, write):
        """Write to a temporary path beside `target`, then give it its name."""
        scratch = tempfile.mkdtemp(prefix=".partial-", dir=self.path)
        try:
            partial = os.path.join(scratch, "data")
            write(partial)
            os.replace(partial, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def sample_keys(x):
    """Return a digest of each sample of a batch of nested arrays: 16 bytes that depend on all its contents."""
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(x)]
    count = len(leaves[0])
    digests = [hashlib.blake2b(digest_size=16) for _ in range(count)]
    for leaf in leaves:
        head = f"{leaf.dtype.str}{leaf.shape[1:]}".encode()
        if leaf.dtype == object:
            rows = [b"\0".join(_as_bytes(item) for item in row.ravel()) for row in leaf.reshape(count, -1)]
        else:
            rows = np.ascontiguousarray(leaf).reshape(count, -1)
        for digest, row in zip(digests, rows, strict=True):
            digest.update(head)
            digest.update(row)
    return [digest.digest() for digest in digests]


def fingerprint(models, layer_names):
    """Return a string that changes with the weights of the models and with the layers that are looked at."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(layer_names).encode())
    for model in models:
        for weight in model.weights:
            value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            digest.update(f"{value.dtype.str}{value.shape}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


def _as_bytes(item):
    return item if isinstance(item, bytes) else str(item).encode()


def _dump(content, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)
