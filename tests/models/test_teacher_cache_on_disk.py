"""The cache itself: what it looks up, what it leaves on disk, and what it refuses."""

import os

import keras
import numpy as np
import pytest

from keras_kicks.losses import FeatureDistillation, LogitsDistillation
from keras_kicks.models import Distiller, teacher_cache
from keras_kicks.models.cache_keys import fingerprint, sample_keys
from keras_kicks.models.teacher_cache import TeacherCache

pytestmark = pytest.mark.tensorflow


def doubled(x):
    return [2 * x, x[:, :1] + 1]


def batch(seed, n=5):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype("float32")


def filled(path, *batches, teachers=doubled, mark="teachers"):
    cache = TeacherCache(teachers, mark, path)
    cache.fill(batches)
    return cache


def never(x):
    raise AssertionError("the teachers were run")


@pytest.fixture(params=["memory", "disk"])
def where(request, tmp_path):
    return None if request.param == "memory" else str(tmp_path / "cache")


@pytest.fixture
def small_segments(monkeypatch):
    """Every batch becomes a segment."""
    monkeypatch.setattr(teacher_cache, "SEGMENT_BYTES", 1)


@pytest.mark.usefixtures("small_segments")
def test_samples_are_found_in_any_order_and_batch(where):
    x = np.concatenate([batch(i) for i in range(4)])
    cache = filled(where, x[:5], x[3:10], x[10:16], x[16:], x[2:8])
    assert len(cache) == 20
    rows = np.random.default_rng(0).integers(0, 20, 50)
    for got, expected in zip(cache.take(sample_keys(x[rows])), doubled(x[rows]), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert [part.shape for part in cache.take(sample_keys(x[:0]))] == [(0, 3), (0, 1)]


def test_samples_are_told_by_all_they_hold():
    alike = [
        np.array([[b"a\0b", b"c"], [b"a", b"b\0c"], [b"ab", b"c"], [b"a", b"bc"], [b"", b"abc"]], dtype=object),
        np.array([["é", "e"], ["e", "é"]]),
        [np.array([1, 2], "int32"), np.array([2, 1], "int32")],
        {"a": np.array([[0.0, 1.0], [1.0, 0.0]]), "b": np.array([7, 7])},
    ]
    for x in alike:
        keys = sample_keys(x)
        assert len(set(keys)) == len(keys)
        assert keys == sample_keys(keras.tree.map_structure(np.copy, x))
    assert sample_keys(np.array(["é"], dtype=object)) == sample_keys(np.array(["é".encode()], dtype=object))
    one = np.ones((1, 4), "float32")
    other_kinds = [one.view("int32"), one.astype("float64"), one.reshape(1, 2, 2), np.asfortranarray(batch(1, 4))]
    assert len({sample_keys(x)[0] for x in [one, *other_kinds]}) == 5
    rows = batch(1, 4)
    assert sample_keys(np.asfortranarray(rows)[::-1]) == sample_keys(rows)[::-1]


def test_inputs_that_are_neither_numbers_nor_strings_are_refused():
    with pytest.raises(TypeError, match="TeacherCache: expected inputs of numbers or strings; got input='list'"):
        sample_keys(np.array([[1, 2], [3], None], dtype=object)[:2])


def test_unknown_samples_are_an_error_that_says_why(where):
    cache = filled(where, batch(0))
    rule = "TeacherCache: expected the samples that were there when the cache was filled; got unknown_samples=2. Train"
    with pytest.raises(ValueError, match=rule):
        cache.take(sample_keys(np.concatenate([batch(0), batch(1, 2)])))


def test_outputs_have_one_shape(where):
    rule = r"TeacherCache: expected outputs of one shape in all batches; got shapes=\[\(4,\)\]. Pad to one length."
    for _ in range(2):  # also after those of another run
        with pytest.raises(ValueError, match=rule):
            filled(where, batch(0), np.ones((2, 4)), teachers=lambda x: [x])


@pytest.mark.usefixtures("small_segments")
def test_directory_is_reused_without_the_teachers(tmp_path):
    filled(str(tmp_path), batch(0), batch(1))
    cache = filled(str(tmp_path), batch(1), batch(0), teachers=never)
    np.testing.assert_array_equal(cache.take(sample_keys(batch(1)))[0], 2 * batch(1))


@pytest.mark.parametrize("bytes_", [1, 2**30])
def test_interrupted_run_is_taken_up_where_it_stopped(bytes_, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "SEGMENT_BYTES", bytes_)

    def failing(x):
        if (x == batch(2)).all():
            raise KeyboardInterrupt
        return doubled(x)

    with pytest.raises(KeyboardInterrupt):
        filled(str(tmp_path), *map(batch, range(4)), teachers=failing)
    runs = []
    cache = filled(str(tmp_path), *map(batch, range(4)), teachers=lambda x: runs.append(x) or doubled(x))
    np.testing.assert_array_equal(np.concatenate(runs), np.concatenate([batch(2), batch(3)]))
    for i in range(4):
        np.testing.assert_array_equal(cache.take(sample_keys(batch(i)))[1], batch(i)[:, :1] + 1)


def test_outputs_are_written_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "SEGMENT_SECONDS", 0)
    TeacherCache(doubled, "teachers", str(tmp_path)).add(batch(0))  # and killed before `flush`
    assert len(TeacherCache(never, "teachers", str(tmp_path))) == 5


def test_what_a_killed_run_left_is_not_read(tmp_path):
    (tmp_path / ".partial-abc" / "data").mkdir(parents=True)
    filled(str(tmp_path), batch(0))
    (tmp_path / ".partial-def" / "data").mkdir(parents=True)
    (tmp_path / ".partial-def" / "data" / "keys.npy").write_bytes(b"half")
    assert len(filled(str(tmp_path), batch(0), teachers=never)) == 5


def test_runs_may_fill_one_directory_together(tmp_path):
    first, second = (TeacherCache(doubled, "teachers", str(tmp_path)) for _ in range(2))
    for cache, other in ((first, batch(1)), (second, batch(2))):
        cache.fill([batch(0), other])
    cache = filled(str(tmp_path), *map(batch, range(3)), teachers=never)
    np.testing.assert_array_equal(cache.take(sample_keys(batch(2)))[0], 2 * batch(2))


@pytest.mark.usefixtures("small_segments")
def test_segments_are_mapped_and_few_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "MAPPED_SEGMENTS", 3)
    before = len(os.listdir("/dev/fd"))
    cache = filled(str(tmp_path), *map(batch, range(40)))
    x = np.concatenate([batch(i) for i in range(40)])
    np.testing.assert_array_equal(cache.take(sample_keys(x))[0], 2 * x)
    assert len(os.listdir("/dev/fd")) - before <= 3 * 2
    assert all(isinstance(column, np.memmap) for column in cache.sample())


def broken(segment, how):
    if how == "truncated":
        with open(segment / "output0000.npy", "r+b") as file:
            file.truncate(100)
    elif how == "empty":
        (segment / "keys.npy").write_bytes(b"")
    elif how == "missing":
        (segment / "output0001.npy").unlink()
    else:
        np.save(segment / "output0001.npy", np.zeros((2, 1)))


@pytest.mark.parametrize("how", ["truncated", "empty", "missing", "other"])
@pytest.mark.usefixtures("small_segments")
def test_broken_segment_is_an_error_that_names_it_and_may_be_deleted(how, tmp_path):
    filled(str(tmp_path), batch(0), batch(1))
    segment = max(tmp_path.glob("segment-*"))
    broken(segment, how)
    with pytest.raises(ValueError, match=f"a segment that can be read; got path='{segment}'. Delete it: its samples"):
        TeacherCache(doubled, "teachers", str(tmp_path))
    for file in segment.iterdir():
        file.unlink()
    segment.rmdir()
    cache = filled(str(tmp_path), batch(0), batch(1))
    np.testing.assert_array_equal(cache.take(sample_keys(batch(1)))[0], 2 * batch(1))
    assert len(list(tmp_path.glob("segment-*"))) == 2


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_directory_of_other_teachers_is_refused_and_kept(tmp_path):
    filled(str(tmp_path), batch(0))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"expected a cache of these teachers; got path=.* Name another directory"):
        filled(str(tmp_path), batch(0), mark="others")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["thesis.txt", "meta.json"])
def test_directory_of_something_else_is_refused_and_kept(name, tmp_path):
    (tmp_path / name).write_text("[1, 2")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"TeacherCache: expected a .*cache.*; got path=.* Name "):
        TeacherCache(doubled, "teachers", str(tmp_path))
    with pytest.raises(ValueError, match="a path that is new, empty or a cache"):
        TeacherCache(doubled, "teachers", str(tmp_path / name))
    assert contents(tmp_path) == before


def net(activation="tanh", width=4, compiled=False):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(width, activation), keras.layers.Dense(3)])
    if compiled:
        model.compile("adam", "mse")
    return model


def test_fingerprint_is_that_of_what_the_teacher_computes():
    model = net()
    mark = fingerprint([model], [])
    same = net(compiled=True)
    same.set_weights(model.get_weights())
    same.trainable = False
    assert fingerprint([same], []) == mark, "names, compilation and flags do not matter"
    other = net("relu")
    other.set_weights(model.get_weights())
    changed = keras.models.clone_model(model)
    changed.set_weights([w + 1e-6 for w in model.get_weights()])
    models = [([model], ["dense"]), ([model, model], []), ([other], []), ([changed], [])]
    assert len({mark, *(fingerprint(*arguments) for arguments in models)}) == 5


def test_fingerprint_depends_on_how_layers_are_connected():
    a, b, x = keras.layers.Dense(3), keras.layers.Dense(3), keras.Input((3,))
    models = [keras.Model(x, keras.layers.add([a(x), b(y)])) for y in (x, a(x))]
    assert [w.path for w in models[0].weights] == [w.path for w in models[1].weights]
    assert fingerprint(models[:1], []) != fingerprint(models[1:], [])


def test_distillers_share_a_directory(tmp_path):
    """Another distiller with the same teacher goes on with it; another teacher, or other layers of it, cannot."""
    x, y = batch(0, 16), np.zeros(16)
    teacher = net()
    teacher.save(tmp_path / "teacher.keras")

    def fit(teacher, loss):
        distiller = Distiller(teacher, net(width=2), loss)
        distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
        return distiller.fit(x, y, teacher_cache=tmp_path / "cache", verbose=0)

    fit(teacher, LogitsDistillation())
    before = contents(tmp_path)
    fit(keras.models.load_model(tmp_path / "teacher.keras"), LogitsDistillation(4.0))
    assert contents(tmp_path) == before
    names = teacher.layers[0].name, None
    for other, loss in ((net(), LogitsDistillation()), (teacher, FeatureDistillation("mse", *names))):
        with pytest.raises(ValueError, match="expected a cache of these teachers"):
            fit(other, loss)
    assert contents(tmp_path) == before
