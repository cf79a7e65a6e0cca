"""ThreeDPW: 3D Poses in the Wild, from its official sequence files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from posekit.arrays import Float64
from posekit.body import SMPLBody, load_body
from posekit.data.body3d.frames import FrameReader, open_frames
from posekit.data.body3d.module import BodyDataModule, BodyError, Part, Recording
from posekit.data.body3d.numbers import label_numbers
from posekit.data.body3d.person import Person, Protocol, visible_joints
from posekit.data.body3d.vibe_boxes import BOX_RULES, BoxRule, smooth_vibe_boxes
from posekit.data.joint_maps import JointSource, source_of
from posekit.errors import UserError, one_of
from posekit.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posekit.safe_pickle import load_pickle
from posekit.skeletons import H36M17, LSP14, SMPL24, SPIN49, get_skeleton

_WHAT = "sequence file"
_FOLDERS = {"train": "train", "val": "validation", "test": "test"}
_SEEN = 0.3  # confidence above which a detected joint counts as visible (MAED)
_CHUNK = 256  # bodies posed at a time

# OpenPose's 18 joints; its neck is the middle of the shoulders, which SPIN calls thorax.
_JOINTS2D = JointSource(
    "3DPW's 2D joints",
    (
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
        "right_ear", "left_ear",
    ),
    {"thorax": "neck"},
    {"SPIN49": {"neck": None, "thorax": "neck"}, "MPII16": {"thorax": "neck"}, "LSP14": {"neck": None}},
)  # fmt: skip


class ThreeDPW(BodyDataModule):
    """3DPW (von Marcard et al., ECCV 2018) as clips of people with 3D joints and SMPL pose, shape and camera.

    ``root`` holds ``sequenceFiles/{train,validation,test}/*.pkl`` and ``imageFiles/<sequence>/image_00000.jpg``. The
    pickles are read without running anything in them. Labels are in the camera's frame: the root's rotation is
    premultiplied by the camera's, and ``body_translation`` belongs to the turned body. Where ``campose_valid`` says
    that a camera does not fit the picture, 3D labels have weight 0 and the frame is no key frame. 2D joints are
    detections (18 of OpenPose), visible from a confidence of 0.3 on; frames with 6 or fewer of the 12 from shoulders to
    ankles are left out, as in the label files of VIBE and MAED. Rate: 30.

    3D joints are the file's 24 of SMPL, or those of the posed mesh where a body is given: in training on SPIN49 the 14
    that SPIN has of LSP, as MAED's labels, else Human3.6M's 17; or those that ``body_joints`` names. Published
    evaluations take 14 of Human3.6M's joints from the mesh: ``body: …``, ``eval_joints: 14``.

    Args:
        root: Folder of the data.
        body: SMPL file or folder of such for :func:`posekit.body.load_body`, to take joints from meshes; SPIN's
            regressors are looked for in the folder, or beside the file.
        body_joints: Joint set of the mesh's joints, in all splits; None takes the above.
        gender: Which body of a folder: ``"own"`` the actor's, ``"neutral"`` the neutral one, as MAED's labels.
        boxes: ``"own"``: the visible joints' extent, ``"vibe"``: that of VIBE's and MAED's label files, squares of 1.1
            times the extent's diagonal, smoothed over the recording.
        options: Of :class:`~posekit.data.body3d.module.BodyDataModule`, by name.
    """

    HOME: ClassVar[str] = "https://virtualhumans.mpi-inf.mpg.de/3DPW (registration; for non-commercial research)"
    PROTOCOLS: ClassVar[dict[int, Protocol]] = {
        14: Protocol("LSP's 14 of Human3.6M's regressor on the neutral mesh, mid hips aligned", LSP14),
        24: Protocol("SMPL's 24 joints: the data set's own challenge", joints=SMPL24.joints),
    }
    COUNTED: ClassVar[Sequence[int]] = range(2, 14)  # OpenPose's shoulders to ankles, as published
    MIN_JOINTS: ClassVar[int] = 7

    def __init__(
        self,
        root: str = "data/3dpw",
        body: str | None = None,
        body_joints: str | None = None,
        gender: Literal["own", "neutral"] = "neutral",
        boxes: BoxRule = "own",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        one_of("gender of ThreeDPW", gender, ("own", "neutral"))
        one_of("boxes of ThreeDPW", boxes, BOX_RULES)
        if body_joints is not None:
            get_skeleton(body_joints)
        self.body = body
        self.body_joints = body_joints
        self.gender = gender
        self.boxes: BoxRule = boxes
        self._bodies: dict[tuple[str, str], SMPLBody] = {}  # by gender and joint set

    def recordings(self, split: Part) -> list[Recording]:
        """Lists a split's sequence files.

        Raises:
            UserError: There are none.
        """
        places = [self.root / "sequenceFiles", self.root / "sequenceFiles" / "sequenceFiles"]
        folder = next((p / _FOLDERS[split] for p in places if (p / _FOLDERS[split]).is_dir()), None)
        if folder is None:
            raise self.missing("folder", places[0] / _FOLDERS[split])
        files = sorted(folder.glob("*.pkl"))
        if not files:
            raise UserError(f"ThreeDPW: {folder} holds no *.pkl; get it from {self.HOME}")
        return [Recording(path.stem, partial(self._read, path, split)) for path in files]

    def _mesh_set(self, part: Part) -> str:
        """Returns the joint set that is taken from meshes."""
        if self.body_joints is not None:
            return self.body_joints
        return LSP14.name if part == "train" and self.skeleton == SPIN49.name else H36M17.name

    def _read(self, path: Path, part: Part) -> list[Person]:
        content = _Sequence(path)
        count = content.frames
        rows = np.arange(count)
        images = [self.root / "imageFiles" / path.stem, self.root / "imageFiles" / "imageFiles" / path.stem]
        read = open_frames(
            f"sequence {path.stem}", rows, [(f, ["image_%05d.jpg"]) for f in images], verify=self.verify_images
        )
        return [self._person(content, actor, read, self._mesh_set(part)) for actor in range(content.actors)]

    def _person(self, content: _Sequence, actor: int, read: FrameReader, mesh_set: str) -> Person:
        count = content.frames
        valid = content.per_actor("campose_valid", actor, (count,)) > 0
        rotation, shift = content.camera[:, :3, :3], content.camera[:, :3, 3]
        world = content.per_actor("jointPositions", actor, (count, 72)).reshape(count, 24, 3)
        own = content.per_actor("poses", actor, (count, 72)).reshape(count, 24, 3)
        trans = content.per_actor("trans", actor, (count, 3))
        shape = content.per_actor("betas", actor, None).reshape(-1)[:10]
        joints3d = np.einsum("nij,nkj->nki", rotation, world) + shift[:, None]
        pose = own.copy()
        pose[:, 0] = matrix_to_axis_angle(rotation @ axis_angle_to_matrix(own[:, 0]))
        # The root turns about the pelvis at rest, which is where the pelvis is less the translation.
        pelvis = world[:, 0] - trans
        points = content.per_actor("poses2d", actor, (count, 3, 18)).swapaxes(1, 2)
        joints = np.concatenate([points[..., :2], 2.0 * (points[..., 2:] > _SEEN)], -1)
        source3d = source_of(SMPL24)
        if self.body is not None:
            place = joints3d[:, 0] - pelvis
            joints3d = self._mesh_joints(pose, shape, place, content.gender(actor), mesh_set)
            source3d = source_of(get_skeleton(mesh_set))
        rows = np.arange(count)
        labelled = valid.astype(np.float64)
        return Person(
            name=f"{content.path.stem}, actor {actor}",
            video=content.path.stem,
            read=read,
            image_rows=rows,
            frames=rows,
            joints=joints,
            source=_JOINTS2D,
            joints3d=joints3d,
            weight3d=np.repeat(labelled[:, None], joints3d.shape[1], 1),
            source3d=source3d,
            boxes=smooth_vibe_boxes(visible_joints(joints)) if self.boxes == "vibe" else None,
            keys=valid,
            body_pose=pose,
            body_shape=np.broadcast_to(shape, (count, 10)),
            body_weight=labelled,
            body_translation=world_to_camera(world[:, 0], rotation, shift) - pelvis,
            body_pelvis=pelvis,
            camera=np.broadcast_to(content.intrinsics, (count, 3, 3)),
            fps=30.0,
        )

    def load_bodies(self, part: Part) -> None:
        """Loads the bodies that joints are taken from.

        Raises:
            UserError: A file is missing or wrong, or a regressor is.
        """
        if self.body is not None:
            for gender in ("male", "female") if self.gender == "own" else ("neutral",):
                self._body(gender, self._mesh_set(part))

    def _body(self, gender: str, mesh_set: str) -> SMPLBody:
        if (gender, mesh_set) not in self._bodies:
            others = [body for (own, _), body in self._bodies.items() if own == gender]
            try:
                body = others[0] if others else load_body(self.body, gender=gender)
                rest = body(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, body.num_betas))
                body.joints(rest, mesh_set)  # now is the time to say that a regressor is missing
            except UserError as error:
                raise BodyError(f"ThreeDPW: data.body {self.body}: {error}") from None
            self._bodies[gender, mesh_set] = body
        return self._bodies[gender, mesh_set]

    def _mesh_joints(self, pose: Float64, shape: Float64, place: Float64, gender: str, mesh_set: str) -> Float64:
        """Returns the joints (N, L, 3) of posed meshes, metres, camera frame."""
        body = self._body(gender if self.gender == "own" else "neutral", mesh_set)
        betas = torch.from_numpy(shape).float().expand(len(pose), 10)
        turns = torch.from_numpy(axis_angle_to_matrix(pose)).float()
        where = torch.from_numpy(place).float()
        found = []
        with torch.no_grad():
            for start in range(0, len(pose), _CHUNK):
                part = slice(start, start + _CHUNK)
                found.append(body.joints(body(turns[part], betas[part], where[part]), mesh_set))
        return torch.cat(found).double().numpy()


def world_to_camera(points: Float64, rotation: Float64, shift: Float64) -> Float64:
    """Moves points (N, 3) by each row's rotation (N, 3, 3) and shift (N, 3)."""
    return np.einsum("nij,nj->ni", rotation, points) + shift


def _length(values: Any) -> int:
    """Returns the length of a list or an array; 0 of anything else."""
    whole = isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim > 0)
    return len(values) if whole else 0


class _Sequence:
    """A sequence file, checked where it is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = load_pickle(path, _WHAT)
        if not isinstance(content, dict):
            raise UserError(f"{_WHAT} {path} holds a {type(content).__name__}, not a dictionary")
        self.content: dict[str, Any] = content
        names = {"poses2d": ("poses2d", "poses2D"), "genders": ("genders", "gender")}
        needed = (
            "poses",
            "betas",
            "trans",
            "jointPositions",
            "campose_valid",
            "poses2d",
            "cam_poses",
            "cam_intrinsics",
        )
        self._keys = {
            name: next((k for k in names.get(name, (name,)) if k in content), "") for name in (*needed, "genders")
        }
        missing = [name for name in needed if not self._keys[name]]
        if missing:
            raise UserError(f"{_WHAT} {path} has no {', '.join(missing)}")
        if not isinstance(content["poses"], (list, tuple)) or not len(content["poses"]):
            raise UserError(f"{_WHAT} {path}: poses is no list of actors")
        self.actors = len(content["poses"])
        first = self._array("poses[0]", content["poses"][0], None)
        if first.ndim != 2:
            raise UserError(f"{_WHAT} {path}: poses[0] has shape {first.shape}, expected (frames, 72)")
        self.frames = len(first)
        self.camera = self._array("cam_poses", content["cam_poses"], (self.frames, 4, 4))
        self.intrinsics = self._array("cam_intrinsics", content["cam_intrinsics"], (3, 3))
        if not (np.diag(self.intrinsics)[:2] > 0).all():
            raise UserError(f"{_WHAT} {path}: cam_intrinsics has focal lengths that are not positive")

    def per_actor(self, name: str, actor: int, shape: Sequence[int] | None) -> Float64:
        """Returns an array of an actor.

        Raises:
            UserError: It is not there or of another shape.
        """
        values = self.content[self._keys[name]]
        count = _length(values)
        if count != self.actors:
            raise UserError(f"{_WHAT} {self.path}: {name} is for {count} actors, poses for {self.actors}")
        found = self._array(f"{name}[{actor}]", values[actor], shape)
        if name == "betas" and found.size < 10:
            raise UserError(f"{_WHAT} {self.path}: betas[{actor}] has {found.size} numbers, expected 10 or more")
        return found

    def gender(self, actor: int) -> str:
        """Returns ``"male"``, ``"female"`` or ``"neutral"``."""
        values = self.content.get(self._keys["genders"], [])
        if not isinstance(values, (list, tuple)) and not _length(values):
            raise UserError(f"{_WHAT} {self.path}: {self._keys['genders']} is no list")
        letter = str(values[actor])[:1].lower() if actor < len(values) else ""
        return {"m": "male", "f": "female"}.get(letter, "neutral")

    def _array(self, name: str, value: Any, shape: Sequence[int] | None) -> Float64:
        found = label_numbers(value, f"{_WHAT} {self.path}: {name}")
        if shape is not None and found.shape != tuple(shape):
            raise UserError(f"{_WHAT} {self.path}: {name} has shape {found.shape}, expected {tuple(shape)}")
        return found
