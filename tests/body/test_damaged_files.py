"""Body files, mean parameters and regressors, damaged in many ways: read, or refused in one line."""

import io
import random
import zipfile

import numpy as np
import pytest

from posekit.body.files import read_body, read_mean_parameters, read_regressor
from posekit.cli import main
from posekit.errors import UserError
from tests.mutations import within

from .toys import toy_arrays

TRIALS = 150
MEAN = {"pose": np.zeros(144), "shape": np.zeros(10), "cam": np.zeros(3)}
ODD = (
    np.array("x"), np.array(["1"]), np.array(1.0), np.zeros(0), np.zeros((0, 3)), np.full((2, 24), np.nan),
    np.full((48, 3), 1e300), np.array(2**63, dtype=np.uint64), np.zeros((24, 48), complex), np.array([None]),
    np.array("2020", dtype="datetime64"), b"no array at all",
)  # fmt: skip


def packed(arrays, compressed=True):
    """Returns the bytes of an archive; bytes in an array's place are put there as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            if isinstance(array, bytes):
                member.write(array)
            else:
                np.save(member, array, allow_pickle=True)
            archive.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


def rows():
    buffer = io.BytesIO()
    np.save(buffer, np.ones((9, 48)))
    return buffer.getvalue()


CASES = {
    "body": (packed(toy_arrays(betas=2)), "npz", read_body),
    "stored body": (packed(toy_arrays(betas=2), compressed=False), "npz", read_body),
    "mean": (packed(MEAN), "npz", lambda path: read_mean_parameters(path, 10)),
    "regressor": (rows(), "npy", lambda path: read_regressor(path, 9, 48)),
    "packed regressor": (packed({"r": np.ones((9, 48))}), "npz", lambda path: read_regressor(path, 9, 48)),
}


def damage(whole, rng):
    """Returns bytes with a few of them lost, changed or repeated; half of it in the archive's directory at the end."""
    content = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        first = max(0, len(content) - 400) if rng.random() < 0.5 else 0
        at, kind = rng.randrange(first, len(content)), rng.randrange(5)
        if kind == 0:
            content = content[: at + 1]
        elif kind == 1:
            content[at] = rng.randrange(256)
        elif kind == 2:
            content[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"))
        elif kind == 3:
            content[at] ^= 1 << rng.randrange(8)
        else:
            content[at:at] = content[at : at + rng.randrange(1, 60)]
    return bytes(content)


def refusal(read, path):
    """Returns what is said of a file, None where it is read."""
    try:
        read(path)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore:Reading `.npy`")  # NumPy's remark on a damaged head
@pytest.mark.parametrize("name", CASES)
def test_damaged_bytes_are_refused_in_one_line(name, tmp_path):
    whole, ending, read = CASES[name]
    path = tmp_path / f"file.{ending}"
    path.write_bytes(whole)
    read(path)
    for trial in range(TRIALS):
        path.write_bytes(damage(whole, random.Random(f"{name}-{trial}")))
        with within(5):
            said = refusal(read, path)
        assert said is None or ("\n" not in said and str(path) in said)


@pytest.mark.parametrize(("arrays", "read"), [(toy_arrays(), CASES["body"][2]), (MEAN, CASES["mean"][2])])
def test_odd_arrays_are_refused_in_one_line(arrays, read, tmp_path):
    path = tmp_path / "file.npz"
    for name in arrays:
        for odd in ODD:
            path.write_bytes(packed({**arrays, name: odd}))
            said = refusal(read, path)
            assert said is not None
            assert "\n" not in said
            assert str(path) in said


def test_the_command_says_one_line_of_a_broken_archive(tmp_path, capsys):
    whole = bytearray(CASES["body"][0])
    whole[whole.rindex(b"PK\x01\x02") + 10] = 99  # a way of packing that zipfile does not know
    (tmp_path / "body.npz").write_bytes(whole)
    with pytest.raises(SystemExit) as stop:
        main(["body", "info", str(tmp_path / "body.npz")])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "body.npz is not a readable numpy file" in line
