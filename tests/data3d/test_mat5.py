import numpy as np
import pytest
import scipy.io

from posekit.errors import UserError
from posekit.mat5 import read_mat5


def cell(*values):
    array = np.empty((1, len(values)), dtype=object)
    array[0, :] = values
    return array


CONTENT = {
    "double": np.arange(24.0).reshape(2, 3, 4),
    "single": np.ones((1, 1), np.float32) / 3,
    "bytes": np.arange(5, dtype=np.uint8)[None],
    "long": np.array([[2**40, -3]]),
    "flag": np.array([[True, False]]),
    "empty": np.zeros((0, 3)),
    "text": "walking",
    "cells": cell(np.ones((2, 2)), "a", np.zeros((1, 0)), cell(np.array([[7.0]]))),
    "record": {"a": 1.0, "b": "x", "deep": {"c": cell(np.ones(2), "y")}},
    "records": np.array([[(1.0, "x"), (2.0, np.zeros((0, 0))), (1.0, "x")]], dtype=[("id", object), ("b", object)]),
    "rows": np.array(["ab", "cd"]),
    "complex": np.array([[1 + 2j]]),
    "last": np.array([[5.0]]),
}


@pytest.mark.parametrize("packed", [True, False])
def test_agrees_with_scipy(tmp_path, packed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, CONTENT, do_compression=packed)
    found, expected = read_mat5(path, ["double"], "file"), scipy.io.loadmat(path)
    for name in ("double", "single", "bytes", "long", "flag", "empty", "last"):
        assert found[name].shape == expected[name].shape, name
        np.testing.assert_array_equal(found[name], expected[name])
    assert found["text"] == "walking"
    inner = found["cells"]
    assert inner.shape == (1, 4)
    np.testing.assert_array_equal(inner[0, 0], np.ones((2, 2)))
    assert inner[0, 1] == "a"
    assert inner[0, 3][0, 0] == 7
    assert found["record"] is None  # passed over unless asked for
    assert found["complex"] is None


@pytest.mark.parametrize("packed", [True, False])
def test_structs_agree_with_scipy(tmp_path, packed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, CONTENT, do_compression=packed)
    found = read_mat5(path, ["record"], "file", structs=True)
    record = found["record"]
    assert record.shape == (1, 1)
    assert record[0, 0].keys() == {"a", "b", "deep"}
    assert record[0, 0]["a"] == 1
    assert record[0, 0]["b"] == "x"
    inner = record[0, 0]["deep"][0, 0]["c"]
    np.testing.assert_array_equal(inner[0, 0], np.ones((1, 2)))
    assert inner[0, 1] == "y"
    expected = scipy.io.loadmat(path)["records"]
    assert found["records"].shape == expected.shape == (1, 3)
    for one, other in zip(found["records"].flat, expected.flat, strict=True):
        np.testing.assert_array_equal(one["id"], other["id"])
        assert one["b"] == "x" if other["b"].size else one["b"].size == 0
    assert not found["records"][0, 2]["id"].flags.writeable  # fields that are alike are one object
    assert found["rows"].tolist() == scipy.io.loadmat(path)["rows"].tolist() == ["ab", "cd"]


def test_structs_whose_fields_do_not_fit(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"r": {"a": 1.0}})
    whole = path.read_bytes()
    shape = whole.index(bytes([5, 0, 0, 0, 8, 0, 0, 0]), 128) + 8
    for sizes in ((2, 1), (1 << 15, 1 << 16)):
        path.write_bytes(whole[:shape] + np.array(sizes, "<i4").tobytes() + whole[shape + 8 :])
        with pytest.raises(UserError, match=r"has 1 fields of structs of shape"):
            read_mat5(path, [], "file", structs=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin as one of version 5"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM", "is of version 7.3: save it with -v7"),
        (b"x" * 200, "does not begin as one of version 5"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"\x0e\0\0\0\xff\0\0\0" + b"\0" * 16, "is cut short"),
    ],
)
def test_foreign_and_cut_files(tmp_path, content, reason):
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"label file .*a\.mat is truncated or no \.mat file: it {reason}"):
        read_mat5(path, [], "label file")


def test_absent_files_and_variables(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(UserError, match="does not exist"):
        read_mat5(path, [], "file")
    with pytest.raises(UserError, match="is a folder"):
        read_mat5(tmp_path, [], "file")
    scipy.io.savemat(path, {"x": 1.0, "record": {"a": 1.0}})
    with pytest.raises(UserError, match=r"a\.mat has no variable y, record"):
        read_mat5(path, ["x", "y", "record"], "file")


@pytest.mark.parametrize(("packed", "structs"), [(True, False), (False, False), (False, True)])
def test_mutations_never_end_the_process(tmp_path, packed, structs):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, CONTENT, do_compression=packed)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(400):
        content = bytearray(whole[: rng.integers(len(whole))] if trial % 4 == 0 else whole)
        for _ in range(int(rng.integers(1, 5))):
            if content:
                content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            read_mat5(path, [], "file", structs)
        except UserError:
            refused += 1
    assert refused > 50
