import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.sparse import csc_matrix

from posekit.body import load_body
from posekit.cli import main

from .toys import toy_arrays


@pytest.fixture
def official(tmp_path):
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    arrays = toy_arrays()
    arrays |= {"J_regressor": csc_matrix(arrays["J_regressor"]), "bs_type": "lrotmin", "J": np.zeros((24, 3))}
    path.write_bytes(pickle.dumps(arrays, protocol=2))
    return path


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_convert_keeps_what_a_body_needs_and_says_so(official, tmp_path, capsys):
    output = tmp_path / "made" / "body.npz"
    main(["body", "convert", str(official), str(output), "--num-betas", "6"])
    text = capsys.readouterr().out
    assert "kept  J_regressor    float32  (24, 48)" in text
    assert "left out: J, bs_type" in text
    assert "licence" in text
    assert [p.name for p in output.parent.iterdir()] == ["body.npz"]
    with np.load(output, allow_pickle=False) as archive:
        assert archive["shapedirs"].shape == (48, 3, 6)
    pose = torch.eye(3).expand(1, 24, 3, 3), torch.ones(1, 6)
    bodies = [load_body(path, num_betas=6)(*pose).vertices for path in (official, output)]
    assert torch.equal(*bodies)


def test_info_describes_files_and_the_builtin_body(official, capsys):
    main(["body", "info", str(official)])
    text = capsys.readouterr().out
    assert "vertices          48, faces 30, joints 24" in text
    assert "shape components  10" in text
    main(["body", "info", "builtin"])
    text = capsys.readouterr().out
    assert "vertices          1500, faces 2996" in text
    assert "1.714 m" in text
    assert "free body" in text


def test_refusals_are_one_line_and_leave_no_file(official, tmp_path, capsys):
    evil = tmp_path / "evil.pkl"
    evil.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    output = tmp_path / "out.npz"
    assert "os.system" in refused(capsys, "body", "convert", str(evil), str(output))
    assert "must end in .npz" in refused(capsys, "body", "convert", str(official), str(tmp_path / "out.pkl"))
    assert "does not exist" in refused(capsys, "body", "info", str(tmp_path / "none.npz"))
    assert "num_betas is 11" in refused(capsys, "body", "convert", str(official), str(output), "--num-betas", "11")
    assert "cannot be written" in refused(capsys, "body", "convert", str(official), str(evil / "out.npz"))
    assert "COMMAND" in refused(capsys, "body")
    assert not output.exists()


def test_help_does_not_import_torch():
    code = "import sys; from posekit.cli import main\ntry: main(['body', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "convert" in done.stdout
