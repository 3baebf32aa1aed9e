"""Predictions are stored byte for byte alike, and damaged files are refused in one line."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.evaluation.predictions import Predictions

ARRAYS = npst.array_shapes(min_dims=1, max_dims=3, max_side=4).flatmap(
    lambda shape: npst.arrays(st.sampled_from(["<f4", "<f8", "<i8", "|u1", "|b1"]), shape)
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("stored") / "p.npz"
    Predictions(np.arange(40.0).reshape(10, 4), np.arange(10) % 4).save(path)
    return path.read_bytes()


@given(array=ARRAYS)
def test_round_trip_keeps_every_bit(
    array: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("p") / "p.npz"
    before = Predictions(np.asfortranarray(array), array[..., 0] if array.ndim > 1 else array)
    before.save(path)
    after = Predictions.load(path)
    assert after.outputs.dtype == array.dtype
    assert after.outputs.tobytes() == array.tobytes()
    assert after.digest() == before.digest() == sha256_file(path)


def test_digest_sees_one_bit_and_a_shape() -> None:
    zeros = np.zeros((4, 2))
    changed = zeros.copy()
    changed[3, 1] = -0.0
    digests = {
        Predictions(outputs, np.zeros(len(outputs))).digest()
        for outputs in (zeros, changed, zeros.reshape(4, 2, 1), zeros.astype("<f4"))
    }
    assert len(digests) == 4


@given(data=st.data())
def test_damage_is_a_storage_error_of_one_line_or_changes_nothing(
    data: st.DataObject, stored: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(stored)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(stored) - 1)) :]
    else:
        damaged[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("p") / "p.npz"
    path.write_bytes(bytes(damaged))
    try:
        loaded = Predictions.load(path)
    except StorageError as error:
        message = str(error)
    else:
        message = str(path)
        np.testing.assert_array_equal(loaded.outputs, np.arange(40.0).reshape(10, 4))
        np.testing.assert_array_equal(loaded.targets, np.arange(10) % 4)
    assert str(path) in message
    assert "\n" not in message


def test_zip_bomb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("outputs.npy", "targets.npy"):
            archive.writestr(name, bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(StorageError, match="claim 100000000 bytes"):
        Predictions.load(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("descr", "shape"),
    [("<f8", "(1000000000000,)"), ("|O", "(2,)"), ("<f8", "(-1, -2)"), ("|S8", "(2,)")],
)
def test_absurd_header_is_refused(tmp_path: Path, descr: str, shape: str) -> None:
    path = tmp_path / "p.npz"
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(16)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("outputs.npy", member)
        archive.writestr("targets.npy", member)
    with pytest.raises(StorageError, match="not readable as predictions"):
        Predictions.load(path)


def test_missing_file_and_missing_member_are_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.npz"):
        Predictions.load(tmp_path / "none.npz")
    content = io.BytesIO()
    np.savez(content, outputs=np.zeros(3))
    (tmp_path / "half.npz").write_bytes(content.getvalue())
    with pytest.raises(StorageError, match=r"targets\.npy"):
        Predictions.load(tmp_path / "half.npz")


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (np.zeros(3), np.zeros(4)),
        (np.array(1.0), np.array(1.0)),
        (np.array(["a"]), np.zeros(1)),
        (np.zeros(1), np.array([None])),
    ],
)
def test_unusable_arrays_are_refused(outputs: np.ndarray, targets: np.ndarray) -> None:
    with pytest.raises(UserError, match="wanted"):
        Predictions(outputs, targets)
