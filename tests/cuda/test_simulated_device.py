"""Each method trains, validates and predicts on a simulated device: nothing is left on the CPU, and no step waits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from posekit.body.joint_sets import SMPL_VERTICES
from posekit.configs import shipped_configs
from posekit_hdm.losses import LOSSES
from tests.body.toys import toy_arrays
from tests.cuda.test_methods import METHODS
from tests.small_configs import Roots, learns_from_pictures, shrink

backend_registration = pytest.importorskip("torch.utils.backend_registration")
if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this version of torch has no devices written in Python", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
# How many poses a picture of LOGO-CAP trains with depends on what was found: one wait in a step.
ALLOWED = {"LogoCap": ["train_losses: aten.nonzero.default"]}
SMPL_FILE = "a file in SMPL format"


def cases():
    quick = [pytest.param(name, {}, id=method) for method, name in METHODS.items()]
    quick.append(pytest.param("maed/synthetic_small.yaml", {"body": SMPL_FILE}, id=f"MAED of {SMPL_FILE}"))
    others = [(name, {}, name) for name in shipped_configs() if name not in METHODS.values()]
    others += [("quickstart.yaml", {"loss": loss}, f"loss {loss}") for loss in LOSSES]
    others = [row for row in others if not row[0].startswith("tables/")]
    return quick + [pytest.param(name, options, id=label, marks=pytest.mark.slow) for name, options, label in others]


def smpl_file(folder):
    """Writes a body as large as SMPL's, of random numbers, and SPIN's regressor beside it."""
    np.savez(folder / "SMPL_NEUTRAL.npz", **toy_arrays(SMPL_VERTICES))
    np.save(folder / "J_regressor_extra.npy", np.eye(9, SMPL_VERTICES))
    return folder / "SMPL_NEUTRAL.npz"


@pytest.mark.parametrize(("name", "options"), cases())
def test_a_method_runs_on_a_device_of_its_own(name, options, tmp_path, mini_coco, mini_mpii):
    content = shrink(yaml.safe_load(shipped_configs()[name].read_text()), Roots(tmp_path, mini_coco, mini_mpii))
    content["model"]["init_args"] |= options | ({"body": str(smpl_file(tmp_path))} if "body" in options else {})
    if "stages" in content["model"]["init_args"]:
        content["data"]["init_args"]["epoch_steps"] = 6  # all of them in one epoch
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump({key: content[key] for key in ("model", "data")}))
    run = subprocess.run(
        [sys.executable, "-m", "tests.cuda.simulated_run", str(config)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=900,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    cpu, device = found["cpu"], found["device"]
    assert device["on_device"]
    assert not cpu["on_device"]
    # A CPU has faster forms of some layers: where an untrained network's maps nearly tie, another cell may win, and of
    # LOGO-CAP's centres all do, if it finds any: on a CPU alone, without oneDNN, the sum differs by a quarter.
    bottom_up = content["model"]["class_path"] == "LogoCap"
    assert cpu["predictions"] > 0 or bottom_up or not learns_from_pictures(content)
    near = 0.5 if bottom_up else 1e-2
    assert device["predictions"] == pytest.approx(cpu["predictions"], rel=near)
    assert set(device["metrics"]) == set(cpu["metrics"])
    assert device["weights"] == pytest.approx(cpu["weights"], rel=1e-5)
    for key, value in cpu["metrics"].items():
        assert device["metrics"][key] == pytest.approx(value, rel=2e-3, abs=1e-5, nan_ok=True), key
    allowed = ALLOWED.get(content["model"]["class_path"], [])
    assert [w for w in device["waits"]["training_step"] if not any(a in w for a in allowed)] == []


REFUSALS = """
import os, torch
from tests.cuda.simulated import DEVICE, WAITED, DeviceError, DeviceMode, register
register()

def refused(call):
    try:
        call()
    except DeviceError:
        return True
    return False

with DeviceMode():
    there, here = torch.ones(3, device=DEVICE), torch.ones(3)
    assert refused(lambda: there + here)
    assert refused(lambda: here[torch.zeros(1, dtype=torch.long, device=DEVICE)])
    assert refused(lambda: torch.cat([there, here]))
    assert refused(lambda: there.numpy())
    assert refused(lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()))
    assert not refused(lambda: there + here[0] + 1)
    assert there.cpu().tolist() == [1, 1, 1]
    there.mul_(2)
    assert float(there.sum()) == 6
    assert str(there[1:].device) == DEVICE
    assert WAITED == []  # this file is none of posekit's
print("done", flush=True)
os._exit(0)
"""


def test_the_device_refuses_what_a_gpu_refuses():
    run = subprocess.run([sys.executable, "-c", REFUSALS], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "done", run.stderr[-2000:]
