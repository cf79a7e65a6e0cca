"""YAML files and checkpoints that users are given by others."""

import contextlib
import pickle
import time

import pytest
import torch

from posekit.checkpoints import read_checkpoint
from posekit.errors import UserError
from posekit.nn import read_state_dict
from posekit.yaml_file import read_yaml


class _Runs:
    def __reduce__(self):
        return print, ("this must not run",)


def test_pickles_in_place_of_a_checkpoint_are_refused_without_further_words(tmp_path, recwarn, capfd):
    path = tmp_path / "c.ckpt"
    path.write_bytes(pickle.dumps(_Runs()))
    with pytest.raises(UserError, match="holds pickled objects, which posekit refuses to load"):
        read_checkpoint(path)
    assert not recwarn.list  # torch's own ask for an issue in its tracker
    assert capfd.readouterr() == ("", "")


def _checkpoint(path):
    needed = {"state_dict": {"w": torch.ones(4096)}, "hyper_parameters": {}, "posekit": {"class_path": "a.B"}}
    torch.save(needed, path)
    return path


def _damage(path):
    """Zeroes a part of a tensor, as a disk does that was cut off from its power."""
    content = bytearray(path.read_bytes())
    start = content.index(torch.ones(1024).numpy().tobytes())
    content[start : start + 4096] = bytes(4096)
    path.write_bytes(content)


def test_damaged_tensors_are_not_taken_for_weights(tmp_path):
    path, other = _checkpoint(tmp_path / "last.ckpt"), _checkpoint(tmp_path / "best.ckpt")
    assert read_checkpoint(path)["state_dict"]["w"].sum() == 4096
    _damage(path)
    with pytest.raises(UserError, match=r"last\.ckpt cannot be read: damaged in its record \S+/data/0; .*: best\.ckpt"):
        read_checkpoint(path)
    with pytest.raises(UserError, match=r"last\.ckpt is damaged in its record \S+/data/0$"):
        read_state_dict(path)
    assert read_state_dict(other)["w"].sum() == 4096


@pytest.mark.parametrize(("place", "value"), [(6, 64), (28, 2)])  # of the table's last entry
def test_a_damaged_table_does_not_hide_damaged_tensors(tmp_path, place, value):
    path = _checkpoint(tmp_path / "last.ckpt")
    _damage(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + place] = value
    path.write_bytes(content)
    (tmp_path / "other.ckpt").symlink_to("gone.ckpt")  # is not named, and does no harm
    (tmp_path / "sharded.ckpt").mkdir()
    with pytest.raises(
        UserError, match=r"last\.ckpt cannot be read: (truncated, or damaged|damaged in its record \S+)$"
    ):
        read_checkpoint(path)
    with pytest.raises(UserError, match="damaged"):
        read_state_dict(path)


def test_checkpoints_without_checksums_are_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = _checkpoint(tmp_path / "last.ckpt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_checkpoint(path)["state_dict"]["w"].sum() == 4096


@pytest.mark.parametrize("step", [7, 61])
def test_changed_bytes_anywhere_are_one_line_or_do_no_harm(tmp_path, step):
    path = _checkpoint(tmp_path / "last.ckpt")
    good = path.read_bytes()
    for place in [*range(0, 2000, step), *range(len(good) - 1200, len(good), step)]:
        content = bytearray(good)
        content[place] ^= 0x15
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            assert read_checkpoint(path)["state_dict"]["w"].sum() == 4096, place


def _nested(depth, width, last="x"):
    lines = [f"a0: &a0 [{', '.join([last] * width)}]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * width)}]" for k in range(1, depth)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        _nested(9, 9),
        _nested(300, 9),
        "\n".join([f"{line.replace('[', '{<<: [')[:-1]}]}}" for line in _nested(9, 9, "{x: 1}").splitlines()]),
        "a: &a [1, *a]\n",
        "a: &a {b: *a}\n",
    ],
    ids=["nested", "deep", "merged", "in itself", "key in itself"],
)
def test_aliases_that_stand_for_millions_of_values_are_refused_at_once(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"config .*c\.yaml stands for more than 100000 values, since aliases"):
        read_yaml(path, "config", "model, data")
    assert time.perf_counter() - start < 10


def test_usual_aliases_are_read(tmp_path):
    (tmp_path / "c.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n")
    found = read_yaml(tmp_path / "c.yaml", "config", "model")
    assert found == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}
    (tmp_path / "c.yaml").write_text("")
    with pytest.raises(UserError, match="holds no keys"):
        read_yaml(tmp_path / "c.yaml", "config", "model")
