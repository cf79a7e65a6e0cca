"""The restricted unpickler: official-looking files are read, everything else is refused before anything of it runs."""

import pickle
import pickletools
import sys
import time
import types

import numpy as np
import pytest
from scipy.sparse import csc_matrix

from posekit.body import load_body
from posekit.body.pickles import read_pickled_arrays
from posekit.errors import UserError
from posekit.safe_pickle import SafeUnpickler

from .toys import toy_arrays


class Ch:
    """Looks like chumpy's class to the pickler."""

    def __init__(self, x):
        self.x = x
        self._dirty_vars = {"x"}
        self._itr = None
        self._depends_on_deps = {"r": {"deps": {"x"}, "value": None, "out_of_date": True}}


class Select:
    """Looks like chumpy's class of a part of another array."""

    def __init__(self, a, idxs, shape):
        self.a, self.idxs, self.preferred_shape = a, idxs, shape


class Touch:
    """What an attacker would write."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def chumpy(monkeypatch):
    for name in ("chumpy", "chumpy.ch"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(Ch, "__module__", "chumpy.ch")
    sys.modules["chumpy.ch"].Ch = Ch
    return Ch


def official(chumpy):
    """The types of the official file: chumpy for the shapes, a sparse regressor, texts, nested information."""
    arrays = toy_arrays()
    return {
        **arrays,
        "shapedirs": chumpy(np.asfortranarray(arrays["shapedirs"])),
        "v_template": arrays["v_template"].astype(">f8"),
        "J_regressor": csc_matrix(arrays["J_regressor"]),
        "J_regressor_prior": csc_matrix((24, 48)),
        "bs_type": "lrotmin",
        "bs_style": b"lbs",
        "pose_training_info": {"gender": "neutral", "scans": [1, 2.5]},
        "count": np.float64(3.5),
    }


@pytest.mark.parametrize("protocol", range(6))
def test_official_types_are_read_in_every_protocol(chumpy, tmp_path, protocol):
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(official(chumpy), protocol=protocol))
    found = read_pickled_arrays(path)
    for name, value in toy_arrays().items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert type(found[name]) is np.ndarray
    assert not found["J_regressor_prior"].any()
    assert found["count"] == 3.5
    assert found["bs_type"] == "lrotmin"
    rotations, betas = _pose()
    np.savez(tmp_path / "same.npz", **toy_arrays())
    bodies = [load_body(tmp_path), load_body(tmp_path / "same.npz")]
    first, second = (b(rotations, betas).vertices.numpy() for b in bodies)
    np.testing.assert_array_equal(first, second)


def test_names_of_python_2_and_of_old_and_new_numpy_and_scipy(chumpy, tmp_path):
    content = pickle.dumps(official(chumpy), protocol=2)
    for new, old in (
        (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"),
        (b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n"),
    ):
        content = content.replace(new, old)
    names = {argument for _, argument, _ in pickletools.genops(content) if isinstance(argument, str)}
    assert {"scipy.sparse.csc csc_matrix", "numpy.core.multiarray _reconstruct", "__builtin__ set"} <= names
    path = tmp_path / "old.pkl"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_pickled_arrays(path)["J_regressor"], toy_arrays()["J_regressor"])


def test_part_of_a_chumpy_array_is_read(chumpy, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "chumpy.reordering", types.ModuleType("chumpy.reordering"))
    monkeypatch.setattr(Select, "__module__", "chumpy.reordering")
    sys.modules["chumpy.reordering"].Select = Select
    whole = np.random.default_rng(0).normal(size=(48, 3, 20))
    indices = np.arange(whole.size).reshape(whole.shape)[:, :, :10].ravel()
    path = tmp_path / "selected.pkl"
    path.write_bytes(pickle.dumps({"shapedirs": Select(chumpy(whole), indices, (48, 3, 10))}, protocol=2))
    np.testing.assert_array_equal(read_pickled_arrays(path)["shapedirs"], whole[:, :, :10])
    path.write_bytes(pickle.dumps({"shapedirs": Select(chumpy(whole), indices + whole.size, (48, 3, 10))}, protocol=2))
    with pytest.raises(UserError, match="truncated or no pickle"):
        read_pickled_arrays(path)


def _pose():
    import torch

    return torch.eye(3).expand(1, 24, 3, 3), torch.ones(1, 10)


def refusal(tmp_path, content):
    path = tmp_path / "evil.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=2))
    with pytest.raises(UserError) as error:
        read_pickled_arrays(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_foreign_names_are_refused_by_name_and_not_run(tmp_path):
    flag = tmp_path / "flag"
    for function, arguments, name in (
        (__import__("os").system, (f"touch {flag}",), "posix.system"),
        (eval, (f"open({str(flag)!r}, 'w')",), "__builtin__.eval"),
        (getattr, ("text", "upper"), "__builtin__.getattr"),
        (np.load, (str(flag),), "numpy"),
        (flag.touch, (), "__builtin__.getattr"),
    ):
        assert name in refusal(tmp_path, {"f": Touch(function, *arguments)})
    assert "chumpy.reordering.transpose" in refusal(tmp_path, b"cchumpy.reordering\ntranspose\n.")
    assert "numpy.matrix" in refusal(tmp_path, b"cnumpy\nmatrix\n.")
    assert not flag.exists()


def test_permitted_names_cannot_be_turned_against_the_reader(tmp_path):
    # _reconstruct of another class, _reconstructor of another class, an encoding with side effects.
    assert "subclass of numpy.ndarray" in refusal(
        tmp_path, b"cnumpy.core.multiarray\n_reconstruct\n(c__builtin__\nset\ntR."
    )
    assert "_reconstructor" in refusal(
        tmp_path, b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR."
    )
    assert "the encoding 'rot13'" in refusal(tmp_path, b"c_codecs\nencode\n(Vabc\nVrot13\ntR.")
    assert "persistent object" in refusal(tmp_path, b"Pthing\n.")
    # Array types other than numbers, bytes that do not fit the shape, indices outside a sparse matrix.
    assert "arrays of type" in refusal(tmp_path, {"f": np.array([{}, None], dtype=object)})
    assert "arrays of type 'M8" in refusal(tmp_path, {"f": np.array(["2020-01-01"], dtype="M8[D]")})
    whole = pickle.dumps({"f": np.zeros(4)}, protocol=2)
    assert "do not fit its shape" in refusal(tmp_path, whole.replace(b"K\x04\x85", b"K\x7f\x85"))
    wrong = csc_matrix((4, 2))
    wrong.data, wrong.indices, wrong.indptr = np.ones(1), np.array([9]), np.array([0, 1, 1])
    assert "IndexError" in refusal(tmp_path, {"J_regressor": wrong})


def test_parts_that_hold_one_another_twice_are_not_written_out(tmp_path):
    """A list in a list twice, 28 times over: 541 bytes, and gigabytes as arrays."""
    nested = b"](K\x01K\x01e" + b"2\x86" * 28
    items = b"".join(b"X" + len(name).to_bytes(4, "little") + name.encode() + nested for name in toy_arrays())
    start = time.monotonic()
    assert "elements to be repeated to" in refusal(tmp_path, b"\x80\x02}(" + items + b"u.")
    laughs = b"cnumpy.core.multiarray\n_reconstruct\n(](K\x01e" + b"2\x86" * 60 + b"tR."
    assert len(refusal(tmp_path, laughs)) < 600
    assert time.monotonic() - start < 20


def test_selections_out_of_one_another_are_not_followed(chumpy, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "chumpy.reordering", types.ModuleType("chumpy.reordering"))
    monkeypatch.setattr(Select, "__module__", "chumpy.reordering")
    sys.modules["chumpy.reordering"].Select = Select
    part = chumpy(np.zeros(2, int))
    for _ in range(40):
        part = Select(part, part, (2,))
    start = time.monotonic()
    assert "elements to be repeated to" in refusal(tmp_path, {"shapedirs": part})
    assert time.monotonic() - start < 5


def test_a_sparse_matrix_of_more_columns_than_it_has_is_refused(tmp_path):
    wrong = csc_matrix((4, 2))
    for starts in ([0, 1], [0, 1, 10**9], [0, 5, 1], [1, 1, 1]):
        wrong.data, wrong.indices, wrong.indptr = np.ones(1), np.array([1]), np.array(starts)
        assert "columns do not fit" in refusal(tmp_path, {"J_regressor": wrong})


def test_broken_files_are_one_line(tmp_path):
    whole = pickle.dumps(toy_arrays(), protocol=2)
    for content in (b"", b"not a pickle", whole[:-1], whole[: len(whole) // 2], b"\x80\x02K\x01\x85R."):
        assert "truncated or no pickle" in refusal(tmp_path, content)
    assert "holds a pickled list" in refusal(tmp_path, [1, 2])
    with pytest.raises(UserError, match="cannot be read"):
        read_pickled_arrays(tmp_path)
    with pytest.raises(UserError, match=r"none\.pkl does not exist"):
        read_pickled_arrays(tmp_path / "none.pkl")
    # A cycle of chumpy objects.
    cycle = b"(dVf\nccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtRp1\n(dVx\ng1\nsbs."
    assert "RecursionError" in refusal(tmp_path, cycle)


def test_mutated_files_never_do_anything_but_load_or_refuse(chumpy, tmp_path):
    rng = np.random.default_rng(0)
    whole = bytearray(pickle.dumps(official(chumpy), protocol=2))
    head = [k for k in range(len(whole)) if k < 400] + [k for k in range(len(whole) - 600, len(whole))]
    path = tmp_path / "mutated.pkl"
    loaded = 0
    messages = []
    for _ in range(300):
        content = bytearray(whole)
        for k in rng.choice(head, 3):
            content[k] = rng.integers(256)
        path.write_bytes(content)
        try:
            read_pickled_arrays(path)
            loaded += 1
        except UserError as error:
            messages.append(str(error))
    assert loaded + len(messages) == 300
    assert len(messages) > 10
    assert not any("\n" in message for message in messages)


def test_what_needs_more_memory_than_there_is_is_told(monkeypatch, tmp_path):
    def starved(_):
        raise MemoryError

    monkeypatch.setattr(SafeUnpickler, "load", starved)
    message = refusal(tmp_path, {})
    assert message.endswith("evil.pkl is damaged, or needs more memory than there is")
