"""The recorded numbers' deterministic arrays (see the fixtures' README), and networks filled with them."""

import json
import zlib

import numpy as np
import torch

from posekit_maed import MAEDNetwork
from tests.shared import SHARED

FOLDER = SHARED / "golden" / "maed"


def z(name, shape, salt):
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{salt}/{name}".encode())))
    return rng.standard_normal(shape)


def tensor(name, shape, salt):
    return torch.from_numpy(z(name, shape, salt)).float()


def parameter(name, shape, salt):
    """Returns the value of a state_dict entry."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    a = z(name, shape, salt)
    fan = np.prod(shape[1:])
    if name.endswith("running_mean"):
        value = 0.05 * a
    elif name.endswith("running_var"):
        value = 1 + 0.1 * np.abs(a)
    elif name.endswith("deccam.weight"):
        value = 0.1 * a / np.sqrt(fan)
    elif name.endswith("deccam.bias"):
        value = 0.05 * a + np.array([1.0, 0, 0])
    elif name.endswith(".weight"):
        value = a / np.sqrt(fan) if len(shape) >= 2 else 1 + 0.1 * a
    elif name.endswith(".bias"):
        value = 0.05 * a
    else:
        value = 0.1 * a
    return torch.from_numpy(np.asarray(value)).float()


def fill(module, salt):
    """Gives every entry of a module's state its recorded value; the iterative decoder's start stays."""
    names = {n: tuple(v.shape) for n, v in module.state_dict().items() if ".init_" not in n}
    module.load_state_dict({n: parameter(n, shape, salt) for n, shape in names.items()}, strict=False)
    return module


def load(name):
    with np.load(FOLDER / name, allow_pickle=False) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files if archive[key].dtype.kind in "fiub"}


def config():
    return json.loads((FOLDER / "small_config.json").read_text())


def small_network(mode, decoder="ktd", start=None):
    c = config()["config"]
    backbone = {"blocks": c["layers"], "channels": c["channels"], "stem_channels": c["stem_chs"], "groups": c["groups"]}
    network = MAEDNetwork(
        "ste", decoder, (c["img"], c["img"]), mode, c["depth"], c["heads"], c["embed"], 16, "hybrid", backbone,
        c["hidden"], start=start,
    )  # fmt: skip
    return fill(network, "small").eval()


def small_images(frames=None):
    c = config()["config"]
    return tensor("images", (c["B"], c["T"], 3, c["img"], c["img"]), "small")[:, :frames]
