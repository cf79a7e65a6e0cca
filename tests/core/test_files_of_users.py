"""YAML files and checkpoints that users are given by others."""

import pickle
import time

import pytest

from posekit.checkpoints import read_checkpoint
from posekit.errors import UserError
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
