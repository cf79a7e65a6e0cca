import base64
import contextlib
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
import zlib

import numpy as np
import pytest

from posekit.data.npz import open_npz
from posekit.errors import UserError
from posekit.safe_pickle import load_joblib, load_npz_object, load_pickle

DATA = {
    "a": np.arange(6.0).reshape(2, 3),
    "big": np.arange(4, dtype=">i4"),
    "again": np.arange(5, dtype=">i4"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "text": np.array(["a", "bcd"]),
    "objects": np.array([np.arange(2), "x", None], dtype=object),
    "nested": [1, 2.5, "x", None, True, (np.float32(3), b"ab"), {"k": {1, 2}}],
}

# joblib.dump of {"x": arange(4) as float32, "names": ["a", "bc"], "mixed": ["s", None] as objects}, by joblib 1.6.
JOBLIB = {
    "whole": (
        "c-n<h%}T>S5N_I(hFYyf`~hE}UUCo*9)wnU5L`$>5Kj_zlhuvpk4=INDAYr-g#`~z-p#kEo21pMpu_Gkv&_u*&CHI~?7dRT6Lf_#"
        "0<m=$5Z58PpLk(vhK_abQV<;@cTYLT=@rLeNIAU0!87DpT9gpW#Zd&JUSxr2_%_aCWss;x42KkuI+1q3ZJ8>Rfwb*7mG4YjS~9kJ"
        "a|E;L3tT`K)r4{ahGCq~r4$NPVj!Z4T{n0zJr9R475gR60?ov(bL)H5k4=)sGy=4lkk))f%2vlcsrvHtv$I9_k~#Kd22;zXSc5g$"
        "8mdl!t+Nf*W*t$zJpAIuwk0#9Ar)zo6Wg7#y&SAP|1Nk@p2%y-n+-qlJZD7hKk<ggtFw6gF^gV-J1cR=_3U+7d8e3&Zdw7Sx|g`I"
        "Q?5d^Oir!9k7Ax!aj}`-+d`EI3={$-tWprFtuE+)QnTy)Cq-aT>FA060dN2EVg"
    ),
    "zlib": (
        "c-jGR0gnE7+J#chO2a@9ZrYTFTCGL=0bihAau5$5gjRYGTu4C>PZD;M)s5zlO@a+5)I+g_1rJW%&9|wWq}8gR!|pJ%%*^-A%#PLU"
        "y;8~(bcHekv2_;^*CD!}cwuUWj&<)+5FI0TPdUfw6~|#nIlRHaGvrxXln~3sQ3Rr1WPxb-HqK*Zkf=uthZK-Hk#@jsnJSclwCy;R"
        "?@U`-GPZhi1heT2TtFAqgmMCgVVuvU6be;hAfky~H+V2T4~H-n`z6l;&BU&A>wDCXO_Ihm0<@Ws)_g_ER>wW5`ttO%vqkrkIrd}*"
        "Q_H4UgEiS2s!o8dvklf}9Z|hJ{Nl#8B{QTU6={+a+nut#9IQS6E_hL%$ZN@)4L|WbXGHBk@rK8%vv~Y5i(Y{{D{;s5>~&drr<jOt"
        "S^=lJm$<Q0u0pg-POZR?VxCxWv6<i7LX`;&6apozQV^=GF6e(!v+MjPMPN|r=!yOTZ~yXQFr2kH"
    ),
}


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def same(a, b):
    if isinstance(a, np.ndarray):
        b = np.asarray(b)
        return a.shape == b.shape and a.dtype.kind == b.dtype.kind and all(map(same, a.flat, b.flat))
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_any_protocol(tmp_path, protocol):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(DATA, protocol))
    found = load_pickle(path)
    assert found.keys() == DATA.keys()
    for name, value in DATA.items():
        assert same(value, found[name]), name
    # Changing the order of bytes of a shared type would spoil every array of the process.
    assert np.dtype("i4").isnative
    assert np.arange(3).tolist() == [0, 1, 2]


def test_python2_text_is_latin1(tmp_path):
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02}q\x00U\x04nameq\x01U\x04m\xfcllq\x02s.")
    assert load_pickle(path) == {"name": "müll"}


@pytest.mark.parametrize("where", ["top", "array", "joblib", "npz"])
def test_malicious_pickles_are_refused_and_not_run(tmp_path, where):
    path, mark = tmp_path / "evil.npz", tmp_path / "run"
    evil = Evil(mark)
    if where == "npz":
        np.savez(path, positions_3d=np.array({"a": evil}, dtype=object))
    else:
        path.write_bytes(pickle.dumps({"a": np.array([evil], dtype=object) if where == "array" else evil}))
    load = {"joblib": load_joblib, "npz": lambda p: load_npz_object(p, "positions_3d")}.get(where, load_pickle)
    with pytest.raises(UserError, match=r"refused: its pickle asks for (posix|nt)\.system.*nothing of it was run"):
        load(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\n_reconstruct\n(c__builtin__\nlist\n(I0\ntS'b'\ntR.",
        b"Pid\n.",
    ],
)
def test_other_names_are_refused(tmp_path, program):
    path = tmp_path / "evil.pkl"
    path.write_bytes(program)
    with pytest.raises(UserError, match="is refused: its pickle asks for"):
        load_pickle(path, "sequence file")


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\nbytes\n(I1000000000000\ntR.",
        b"cbuiltins\nbytearray\n(cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRS'\\x00\\x00\\x00\\x00\\x00\\x01\\x00\\x00'\n"
        b"tRtR.",
        b"cbuiltins\nlist\n(cbuiltins\nrange\n(I1000000000000\ntRtR.",
        b"cnumpy\ndtype\n(I1000000000000\ntR.",
        b"cbuiltins\nstr\n((K\x01K\x01l" + b"2\x86" * 60 + b"tR.",
        b"cnumpy\nndarray\n((I1000000\nI1000000\ntcnumpy\ndtype\n(S'f8'\ntRtR.",
    ],
)
def test_sizes_without_data_are_refused(tmp_path, program):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(program)
    with pytest.raises(UserError, match=r"its pickle asks for (bytes|bytearray|list|str|numpy\.ndarray)"):
        load_pickle(path)


@pytest.mark.parametrize("load", [load_pickle, load_joblib])
@pytest.mark.parametrize("part", ["list", "array", "range"])
def test_parts_that_are_repeated_beyond_measure_are_refused(tmp_path, load, part):
    path = tmp_path / "laughs.pkl"
    value = {"list": [1, 1], "array": np.zeros(1000), "range": range(10**6)}[part]
    for _ in range(24):
        value = [value, value]
    path.write_bytes(pickle.dumps({"poses": value}))
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"laughs.pkl is refused: its pickle asks for [\d,]+ elements to be repeated to"
    ):
        load(path)
    assert time.monotonic() - start < 5


def test_parts_may_be_shared_and_may_not_hold_themselves(tmp_path):
    path = tmp_path / "shared.pkl"
    shape, rows = np.zeros(10), [["a", 1]] * 1000
    path.write_bytes(pickle.dumps({"betas": [shape, shape], "rows": rows, "objects": np.array([rows, None], object)}))
    found = load_pickle(path)
    assert found["betas"][0] is found["betas"][1]
    assert found["rows"] == rows
    path.write_bytes(b"\x80\x02]q\x00(h\x00h\x00e.")
    with pytest.raises(UserError, match="a part of it holds itself"):
        load_pickle(path)


@pytest.mark.parametrize(
    "name",
    [b"c_codecs\nencode\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"ccollections\nOrderedDict\n",
     b"cnumpy.core.multiarray\n_reconstruct\n", b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"],
)  # fmt: skip
def test_files_cannot_change_the_stand_ins(tmp_path, name):
    path = tmp_path / "later.pkl"
    for state in (
        b"(S'__defaults__'\nS'read'\n(S'x'\ntd",
        b"(N(S'__defaults__'\n(S'rot13'\ntS'read'\nNS'subclass'\nNdt",
    ):
        path.write_bytes(name + state + b"b.")
        for load in (load_pickle, load_joblib):
            with pytest.raises(UserError):
                load(path)
    path.write_bytes(b"c_codecs\nencode\n(Vabc\ntR.")
    assert load_pickle(path) == b"abc"
    path.write_bytes(zlib.decompress(base64.b85decode(JOBLIB["whole"])))
    assert load_joblib(path)["names"].tolist() == ["a", "bc"]


def test_what_a_file_names_cannot_write_on_the_terminal(tmp_path):
    path = tmp_path / "red.pkl"
    path.write_bytes(b"cos\x1b[31m\nsys\x07tem\n.")
    with pytest.raises(UserError, match=r"asks for os \[31m\.sys tem, and only"):
        load_pickle(path)


def test_neither_torch_nor_lightning_is_needed():
    code = "import sys, posekit.safe_pickle; assert not {'torch', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_records_are_refused(tmp_path):
    path = tmp_path / "records.pkl"
    path.write_bytes(pickle.dumps(np.zeros(2, dtype=[("x", "f4")])))
    with pytest.raises(UserError, match="arrays of type"):
        load_pickle(path)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(DATA)[:-20], b"\x80\x05\x95\xff\xff\xff\xff"])
def test_broken_files(tmp_path, content):
    path = tmp_path / "broken.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.pkl is truncated or no pickle"):
        load_pickle(path)
    with pytest.raises(UserError, match=r"truncated or no pickle"):
        load_joblib(path)


def test_absent_file(tmp_path):
    with pytest.raises(UserError, match=r"sequence file .* does not exist"):
        load_pickle(tmp_path / "none.pkl", "sequence file")


@pytest.mark.parametrize("kind", JOBLIB)
def test_files_of_joblib_itself(tmp_path, kind):
    path = tmp_path / "real.pt"
    path.write_bytes(zlib.decompress(base64.b85decode(JOBLIB[kind])))
    found = load_joblib(path)
    np.testing.assert_array_equal(found["x"], np.arange(4, dtype=np.float32))
    assert np.asarray(found["names"]).tolist() == ["a", "bc"]
    assert np.asarray(found["mixed"]).tolist() == ["s", None]


@pytest.mark.parametrize("end", [None, -9])
def test_zlib_is_decompressed_as_far_as_it_is_read(tmp_path, end):
    path = tmp_path / "more.pt"
    content = pickle.dumps({"x": np.arange(300_000)}, 2)
    path.write_bytes(zlib.compress(content + bytes(1 << 28))[: end and len(content) // 100])
    tracemalloc.start()
    with pytest.raises(UserError, match="truncated or no pickle") if end else contextlib.nullcontext():
        assert load_joblib(path)["x"].sum() == 300_000 * 299_999 // 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26


def test_more_memory_than_there_is(tmp_path):
    path = tmp_path / "large.pt"
    path.write_bytes(zlib.compress(b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"ab"))
    with pytest.raises(UserError, match=r"large\.pt is damaged, or needs more memory than there is$"):
        load_joblib(path)


def test_lz4_is_named(tmp_path):
    path = tmp_path / "db.pt"
    path.write_bytes(b"\x04\x22M\x18 and more")
    with pytest.raises(UserError, match=r"compressed by LZ4, which is not read: joblib.dump"):
        load_joblib(path)


def test_npz_of_a_dictionary(tmp_path):
    path = tmp_path / "poses.npz"
    np.savez_compressed(
        path, positions_3d=np.array({"S1": {"Walking": np.ones((2, 32, 3))}}, dtype=object), x=np.ones(2)
    )
    assert load_npz_object(path, "positions_3d")["S1"]["Walking"].shape == (2, 32, 3)
    with pytest.raises(UserError, match="has no array 'y'; it has positions_3d, x"):
        load_npz_object(path, "y")
    with pytest.raises(UserError, match="'x' holds float64, not Python objects"):
        load_npz_object(path, "x")


def test_text_that_is_none(tmp_path):
    path = tmp_path / "names.pkl"
    names = np.array([0x41, 0x7FFFFFFF], dtype=np.uint32)
    content = pickle.dumps({"n": np.array(["ab"])}, 2)
    path.write_bytes(content.replace("ab".encode("utf-32-le"), b"a\0\0\0" + b"\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf"[:4]))
    with pytest.raises(UserError, match=r"names\.pkl is truncated or no pickle"):
        load_pickle(path)
    archive = tmp_path / "names.npz"
    np.savez(archive, names=names.view("<U2"))
    with open_npz(archive, "database") as found, pytest.raises(UserError, match="'names' holds text that is none"):
        _ = found["names"]
