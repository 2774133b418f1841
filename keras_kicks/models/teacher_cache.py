"""What teachers compute, kept by sample, in memory or on disk."""

import functools
import json
import os
import shutil
import tempfile
import time
import uuid

import numpy as np

from keras_kicks._errors import expect
from keras_kicks.models.cache_keys import sample_keys

# Bytes of outputs, and seconds, after which what was gathered is written to disk: what a killed run can lose.
SEGMENT_BYTES = 64 * 2**20
SEGMENT_SECONDS = 60
# Segments that are mapped into memory at a time: each array of them keeps a file open.
MAPPED_SEGMENTS = 64


class TeacherCache:
    """Outputs of teachers for samples that were seen, looked up by the contents of the sample.

    On disk it is a directory with a `meta.json` and one directory for each segment of samples. A segment is written
    beside its final name and renamed, so that an interrupted run leaves whole segments and the next run goes on after
    them; several runs may fill one cache. A killed run may leave a `.partial-*` directory, which is never read.
    Segments are mapped into memory, not loaded. One that cannot be read is an error, and may be deleted: its samples
    are then computed again.

    Args:
        teachers: Function from a batch of inputs to the flat list of the teachers' outputs, as NumPy arrays.
        fingerprint: String that changes with the teachers.
        path: Directory, or None to keep everything in memory.

    Raises:
        ValueError: expected a path that is new, empty or a cache; a cache of these teachers; segments that can be
            read.
    """

    def __init__(self, teachers, fingerprint, path=None):
        self.teachers = teachers
        self.fingerprint = fingerprint
        self.path = path
        self._places = {}
        self._segments = []
        self._pending = []
        self._pending_rows = self._pending_bytes = 0
        self._flushed_at = time.monotonic()
        self._mapped = functools.lru_cache(MAPPED_SEGMENTS)(_map_columns)
        if self.path is not None:
            self._open()

    def __len__(self):
        return len(self._places)

    def fill(self, batches):
        """Compute the outputs for the samples of all batches, and keep those of the first if a later one fails.

        Returns:
            The keys of all samples, in their order.
        """
        try:
            return [key for x in batches for key in self.add(x)]
        finally:
            self.flush()

    def add(self, x):
        """Compute the outputs for the samples of a batch that are not known yet, and return the keys of all.

        Raises:
            ValueError: expected outputs of one shape in all batches.
        """
        keys = sample_keys(x)
        new = {key: row for row, key in enumerate(keys) if key not in self._places}
        if not new:
            return keys
        rows = np.fromiter(new.values(), dtype=int)
        # The whole batch is run, for its outputs to be those that a training step would compute.
        outputs = [np.asarray(output)[rows] for output in self.teachers(x)]
        first = self._pending[0][1] if self._pending else self.sample() if self._segments else outputs
        shapes = [output.shape[1:] for output in outputs]
        one = shapes == [output.shape[1:] for output in first]
        expect(one, "TeacherCache", "outputs of one shape in all batches", "Pad to one length.", shapes=shapes)
        for row, key in enumerate(new, self._pending_rows):
            self._places[key] = (len(self._segments), row)
        self._pending.append((list(new), outputs))
        self._pending_rows += len(new)
        self._pending_bytes += sum(output.nbytes for output in outputs)
        late = time.monotonic() - self._flushed_at >= SEGMENT_SECONDS
        if self.path is not None and (self._pending_bytes >= SEGMENT_BYTES or late):
            self.flush()
        return keys

    def flush(self):
        """Make one segment of what was added since the last one."""
        if not self._pending:
            return
        keys = [key for part, _ in self._pending for key in part]
        columns = [np.concatenate(parts) for parts in zip(*(outputs for _, outputs in self._pending), strict=True)]
        self._segments.append(columns if self.path is None else self._write(keys, columns))
        self._pending = []
        self._pending_rows = self._pending_bytes = 0
        self._flushed_at = time.monotonic()

    def take(self, keys):
        """Return the outputs for the samples of these keys, as a flat list of arrays.

        Raises:
            ValueError: expected the samples that were there when the cache was filled.
        """
        places = [self._places.get(key) for key in keys]
        unknown = places.count(None)
        rule = "the samples that were there when the cache was filled"
        remedy = "Train without teacher_cache if samples change between epochs, by random augmentation for one."
        expect(not unknown, "TeacherCache", rule, remedy, unknown_samples=unknown)
        segments, rows = np.array(places, dtype=int).reshape(-1, 2).T
        columns = [np.empty((len(places), *c.shape[1:]), c.dtype) for c in self.sample()]
        for segment in np.unique(segments):
            chosen = segments == segment
            for column, source in zip(columns, self._columns(segment), strict=True):
                column[chosen] = source[rows[chosen]]
        return columns

    def sample(self):
        """Return the outputs for one sample, for their shapes and dtypes."""
        expect(bool(self._segments), "TeacherCache", "data with a sample in it", samples=0)
        return [column[:1] for column in self._columns(0)]

    def _columns(self, segment):
        columns = self._segments[segment]
        return columns if self.path is None else self._mapped(columns)

    def _open(self):
        meta = os.path.join(self.path, "meta.json")
        if not os.path.exists(meta):
            remedy = "Name a new directory."
            expect(_is_free(self.path), "TeacherCache", "a path that is new, empty or a cache", remedy, path=self.path)
            os.makedirs(self.path, exist_ok=True)
            self._rename_into(meta, lambda path: _dump({"format": 1, "teachers": self.fingerprint}, path))
            return
        try:
            with open(meta, encoding="utf-8") as file:
                same = json.load(file) == {"format": 1, "teachers": self.fingerprint}
        except ValueError:
            same = False
        remedy = "Name another directory, or delete this one."
        expect(same, "TeacherCache", "a cache of these teachers", remedy, path=self.path)
        for name in sorted(entry for entry in os.listdir(self.path) if entry.startswith("segment-")):
            self._read(os.path.join(self.path, name))

    def _read(self, folder):
        rule, remedy = "a segment that can be read", "Delete it: its samples are then computed again."
        try:
            keys = np.load(os.path.join(folder, "keys.npy"))
            columns = self._mapped(folder)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"TeacherCache: expected {rule}; got path={folder!r}. {remedy} ({error})") from error
        expected = self.sample() if self._segments else columns
        whole = [c.shape[1:] for c in columns] == [c.shape[1:] for c in expected]
        whole = whole and all(len(column) == len(keys) for column in columns)
        expect(whole, "TeacherCache", rule, remedy, path=folder)
        for row, key in enumerate(keys):
            self._places[key.tobytes()] = (len(self._segments), row)
        self._segments.append(folder)

    def _write(self, keys, columns):
        folder = os.path.join(self.path, f"segment-{uuid.uuid4().hex}")

        def write(partial):
            os.makedirs(partial)
            np.save(os.path.join(partial, "keys.npy"), np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1))
            for i, column in enumerate(columns):
                np.save(os.path.join(partial, f"output{i:04d}.npy"), column)

        self._rename_into(folder, write)
        return folder

    def _rename_into(self, target, write):
        """Write to a temporary path beside `target`, then give it its name."""
        scratch = tempfile.mkdtemp(prefix=".partial-", dir=self.path)
        try:
            partial = os.path.join(scratch, "data")
            write(partial)
            os.replace(partial, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _is_free(path):
    """Return whether a new cache may begin at a path: nothing is there but what a killed run may have left."""
    if not os.path.isdir(path):
        return not os.path.exists(path)
    return all(entry.startswith(".partial-") for entry in os.listdir(path))


def _map_columns(folder):
    names = sorted(entry for entry in os.listdir(folder) if entry.startswith("output"))
    return [np.load(os.path.join(folder, name), mmap_mode="r") for name in names]


def _dump(content, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)
