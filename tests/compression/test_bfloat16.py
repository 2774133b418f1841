"""Weights of 16 bits, bit by bit against ml_dtypes and integer arithmetic."""

import math
import os
import re
import struct
import zipfile

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from keras_kicks.compression import load_bfloat16_weights, save_bfloat16_weights, to_bfloat16
from keras_kicks.compression.bfloat16 import upper_half, widen

pytestmark = pytest.mark.tensorflow


def patterns():
    """Every upper half, with lower halves at and about the ends and the tie, and random ones."""
    lower = [0, 1, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF]
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    drawn = np.random.default_rng(0).integers(0, 1 << 16, (2, 1 << 16), dtype=np.uint32)
    bits = np.concatenate([upper | np.uint32(low) for low in lower] + [upper | low for low in drawn])
    return bits, bits.view(np.float32)


def model_of(*values):
    """Return a model whose kernel is these values, and whose bias is 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(len(values))])
    model.set_weights([np.array([values], "float32"), np.ones(len(values), "float32")])
    return model


def kernel_of(model):
    return ops.convert_to_numpy(model.weights[0])


def test_truncate_zeroes_the_lower_half_of_every_pattern():
    bits, x = patterns()
    got = widen(upper_half(x, "truncate")).view(np.uint32)
    number = ~np.isnan(x)
    np.testing.assert_array_equal(got[number], bits[number] // 65536 * 65536)


def test_nearest_is_that_of_ml_dtypes_for_every_pattern():
    """Normal and subnormal numbers, zeros of both signs, ties to even, and overflow to infinity."""
    _, x = patterns()
    x = x[~np.isnan(x)]
    np.testing.assert_array_equal(upper_half(x, "nearest"), x.astype(ml_dtypes.bfloat16).view(np.uint16))
    assert np.isinf(widen(upper_half(np.float32(3.4e38), "nearest")))


@pytest.mark.parametrize("rounding", ["truncate", "nearest", "stochastic"])
def test_nan_stays_nan_and_infinity_infinity(rounding):
    bits, x = patterns()
    got = widen(upper_half(x, rounding, np.random.default_rng(0)))
    nan, infinite = np.isnan(x), np.isinf(x)
    assert np.isnan(got[nan]).all()
    np.testing.assert_array_equal(np.signbit(got[nan]), np.signbit(x[nan]))
    # The upper bits of the payload are kept, where there are any.
    payload = nan & (bits & 0x7F0000 > 0)
    np.testing.assert_array_equal(got[payload].view(np.uint32), bits[payload] & 0xFFFF0000)
    np.testing.assert_array_equal(got[infinite], x[infinite])


def test_a_single_number_is_rounded_without_a_warning():
    nan = np.array(0xFFFFFFFF, np.uint32).view(np.float32)
    for rounding in ("truncate", "nearest", "stochastic"):
        assert upper_half(nan, rounding, np.random.default_rng(0)).shape == ()
        assert np.isnan(widen(upper_half(nan, rounding, np.random.default_rng(0))))


def test_stochastic_draws_the_two_neighbours_and_keeps_the_mean():
    """k of n draws are the upper neighbour: binomial with the dropped fraction p, so within 5 standard deviations."""
    n = 40_000
    generator = np.random.default_rng(0)
    for bits in (0x3DCCCCCD, 0xBDCC0001, 0x3F80FFFF, 0x00004000, 0x7F7E8000):
        x = np.full(n, struct.unpack("f", struct.pack("I", bits))[0], np.float32)
        got = upper_half(x, "stochastic", generator)
        upper, p = bits >> 16, (bits & 0xFFFF) / 65536
        assert set(np.unique(got)) <= {upper, upper + 1}
        ups = int((got == upper + 1).sum())
        assert abs(ups - n * p) < 5 * math.sqrt(n * p * (1 - p)) + 1


def test_what_16_bits_hold_is_not_changed():
    x = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    for rounding in ("truncate", "nearest", "stochastic"):
        got = widen(upper_half(x, rounding, np.random.default_rng(0)))
        np.testing.assert_array_equal(got.view(np.uint32), x.view(np.uint32))


@pytest.mark.parametrize("rounding", ["truncate", "nearest", "stochastic"])
def test_the_model_is_rounded_and_stays_float32(rounding):
    drawn = np.random.default_rng(0).normal(size=50).astype("float32")
    model = to_bfloat16(model_of(*drawn), rounding, seed=3)
    assert all(weight.dtype == "float32" for weight in model.weights)
    got = kernel_of(model)
    assert np.all(got.view(np.uint32) % 65536 == 0)
    # The distance to the neighbours is at most 2^-7 of the number.
    assert np.all(np.abs(got - drawn) <= np.abs(drawn) / 128)
    assert np.any(got != drawn)


def test_a_seed_repeats_the_draws():
    drawn = np.random.default_rng(0).normal(size=200)
    first, again, other = (kernel_of(to_bfloat16(model_of(*drawn), "stochastic", seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_weights_of_other_dtypes_are_left_alone():
    keras.config.set_dtype_policy("float64")
    model = model_of(0.1)
    assert kernel_of(to_bfloat16(model))[0, 0] == kernel_of(model_of(0.1))[0, 0]


def trained():
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(64), keras.layers.BatchNormalization(), keras.layers.Dropout(0.1)]
    )
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(32, 8))
    model.fit(x, np.ones((32, 64)), verbose=0)
    return model, x


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_a_file_brings_back_every_bit(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model, x = trained()
    path = tmp_path / "model.npz"
    save_bfloat16_weights(to_bfloat16(model), path)
    other, _ = trained()
    assert load_bfloat16_weights(other, path) is other
    for weight, loaded in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), ops.convert_to_numpy(loaded))
        assert weight.dtype == loaded.dtype
    np.testing.assert_array_equal(model.predict(x, verbose=0), other.predict(x, verbose=0))


def test_the_file_is_half_as_large(tmp_path):
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(1000)])
    saved = save_bfloat16_weights(to_bfloat16(model), tmp_path / "model.npz")
    model.save_weights(tmp_path / "model.weights.h5")
    assert saved.weights_size == 4 * 101_000
    assert saved.size == os.path.getsize(tmp_path / "model.npz")
    assert saved.size / saved.weights_size == pytest.approx(0.5, abs=0.01)
    assert saved.size / os.path.getsize(tmp_path / "model.weights.h5") < 0.52


def test_replicas_are_rounded_alike(strategy, tmp_path):
    with strategy.scope():
        model = model_of(0.1, 0.2, 0.3)
    to_bfloat16(model, "stochastic", seed=1)
    first, second = (v.numpy() for v in strategy.experimental_local_results(model.weights[0].value))
    np.testing.assert_array_equal(first, second)
    assert np.all(first.view(np.uint32) % 65536 == 0)
    save_bfloat16_weights(model, tmp_path / "model.npz")
    np.testing.assert_array_equal(kernel_of(load_bfloat16_weights(model_of(0, 0, 0), tmp_path / "model.npz")), first)


def refused(error, message):
    return pytest.raises(error, match=re.escape(message))


def test_weights_that_were_not_rounded_are_not_saved(tmp_path):
    with refused(ValueError, "save_bfloat16_weights: expected weights from to_bfloat16; got weight="):
        save_bfloat16_weights(model_of(0.1), tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_model_changes_nothing(tmp_path):
    path = tmp_path / "model.npz"
    save_bfloat16_weights(to_bfloat16(model_of(1, 2, 3)), path)
    model = model_of(7, 8)
    with refused(ValueError, "load_bfloat16_weights: expected a file with the weights of this model, by their order"):
        load_bfloat16_weights(model, path)
    np.testing.assert_array_equal(kernel_of(model), [[7, 8]])
    deeper = keras.Sequential([model_of(1, 2, 3), keras.layers.Dense(1)])
    deeper.build((None, 1))
    with refused(ValueError, "weights_of_file=2, weights_of_model=4"):
        load_bfloat16_weights(deeper, path)


@pytest.mark.parametrize("damage", ["text", "array", "cut", "flipped"])
def test_a_damaged_file_is_refused(damage, tmp_path):
    path = tmp_path / "model.npz"
    save_bfloat16_weights(to_bfloat16(model_of(1, 2, 3)), path)
    content = bytearray(path.read_bytes())
    if damage == "text":
        path.write_text("no weights", encoding="utf-8")
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        with zipfile.ZipFile(path) as file:
            info = file.infolist()[0]
        content[info.header_offset + 30 + len(info.filename) + 150] ^= 1
        path.write_bytes(content)
    with refused(ValueError, "load_bfloat16_weights: expected a file of save_bfloat16_weights; got path="):
        load_bfloat16_weights(model_of(1, 2, 3), path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "model"}, TypeError, "expected a model of Keras 3; got model='builtins.str'."),
        ({"model": keras.Sequential([keras.layers.Dense(1)])}, ValueError, "expected a built model; got model="),
        ({"rounding": "up"}, ValueError, "expected rounding to be one of 'truncate', 'nearest', 'stochastic'; got"),
        ({"seed": 1.5}, TypeError, "expected an integer for seed; got seed=1.5."),
        ({"seed": -1}, ValueError, "expected seed >= 0; got seed=-1."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with refused(error, f"to_bfloat16: {message}"):
        to_bfloat16(**{"model": model_of(1), **arguments})


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (3, TypeError, "expected a path; got path=3."),
        ("model.h5", ValueError, "expected a path that ends with .npz; got path="),
        ("nowhere/model.npz", ValueError, "expected a directory that exists; got directory="),
    ],
)
def test_wrong_paths_are_refused(path, error, message, tmp_path):
    path = os.path.join(tmp_path, path) if isinstance(path, str) else path
    with refused(error, f"save_bfloat16_weights: {message}"):
        save_bfloat16_weights(to_bfloat16(model_of(1)), path)


def test_a_missing_file_is_refused(tmp_path):
    with refused(ValueError, "load_bfloat16_weights: expected a file that exists; got path="):
        load_bfloat16_weights(model_of(1), tmp_path / "model.npz")
