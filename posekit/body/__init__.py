"""Bodies in SMPL format: the built-in body and its skinning."""

from posekit.body.builtin import BuiltinBody, load_builtin_body, load_builtin_smplx
from posekit.body.lbs import rigid_transforms, skin

__all__ = ["BuiltinBody", "load_builtin_body", "load_builtin_smplx", "rigid_transforms", "skin"]
