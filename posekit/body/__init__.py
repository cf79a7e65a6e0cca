"""Bodies in SMPL format: the built-in body, files of SMPL, skinning, and export of meshes."""

from posekit.body.builtin import BuiltinBody, load_builtin_body
from posekit.body.export import write_glb, write_obj
from posekit.body.lbs import rigid_transforms, skin
from posekit.body.load import load_body
from posekit.body.model import BodyOutput, MeanParameters, SMPLBody

__all__ = [
    "BodyOutput",
    "BuiltinBody",
    "MeanParameters",
    "SMPLBody",
    "load_body",
    "load_builtin_body",
    "rigid_transforms",
    "skin",
    "write_glb",
    "write_obj",
]
