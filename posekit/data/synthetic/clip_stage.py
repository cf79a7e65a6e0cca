"""The stage of a clip: one person, one recording and one camera path, and the person's body at any moment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from posekit.arrays import Float32, Float64
from posekit.data.synthetic.camera import BOX_PADDING, View, sample_view
from posekit.data.synthetic.clip_camera import CameraPath, CameraPoses, camera_poses, sample_path
from posekit.data.synthetic.clip_motion import poses_at
from posekit.data.synthetic.clip_settings import ClipSettings
from posekit.data.synthetic.domain import restyle
from posekit.data.synthetic.figure import Figure, load_figure
from posekit.data.synthetic.look import sample_look
from posekit.data.synthetic.motion import FRAME_RATE, MotionClip, without_heading
from posekit.data.synthetic.person import Person, thickness
from posekit.data.synthetic.pose import NOISY_JOINTS, euler
from posekit.data.synthetic.shading import sample_light
from posekit.data.synthetic.streams import PERSON, STYLE, stream
from posekit.geometry.rotations import axis_angle_to_matrix

_LEAST_DEPTH = 0.9  # metres between the camera and the nearest joint in any frame
_ROUNDS = 20  # of moving the camera away, by a third or more each
_LONGEST = 2.0  # recorded frames: the exposure at motion_blur 1, however far apart the frames lie


@dataclass(frozen=True)
class Plan:
    """A clip before anything is drawn: one person, one recording, one camera path."""

    figure: Figure
    person: Person  # its rotations are the constant offsets of the joints
    view: View
    path: CameraPath
    recording: MotionClip
    start: int
    exposure: float  # recorded frames
    padding: float
    jitter: Float64


def plan_clip(settings: ClipSettings, index: int) -> Plan:
    """Draws who moves how, and how the camera does; the domain changes looks and light alone."""
    rng = stream(settings.seed, settings.split, PERSON, index)
    options = settings.options
    recording, start = settings.windows.draw(rng)
    person = Person(
        _offsets(rng, options.pose_variety),
        np.clip(rng.normal(0, 1, 10), -2.5, 2.5).astype(np.float32),
        sample_look(rng),
        sample_light(rng),
    )
    view = sample_view(rng, replace(options, truncation=0.0))
    path = sample_path(rng, options.camera_motion)
    exposure = float(rng.uniform(0.6, 1.0)) * options.motion_blur * min(settings.frame_step, _LONGEST)
    padding, jitter = BOX_PADDING * float(np.exp(rng.normal(0, 0.05))), rng.normal(0, 0.02, 2)
    person = restyle(person, settings.domain, stream(settings.seed, settings.split, STYLE, index))
    figure = load_figure(person.look.skirt, person.look.curtain)
    return Plan(figure, person, view, path, recording, start, exposure, padding, jitter)


def _offsets(rng: np.random.Generator, variety: float) -> Float32:
    """Draws rotations (24, 3, 3) that a whole clip adds to its joints, so that motion stays as smooth as recorded."""
    result = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
    noise = rng.normal(0, np.deg2rad(5.0) * min(variety, 1.0), (len(NOISY_JOINTS), 3)).astype(np.float32)
    result[list(NOISY_JOINTS)] = axis_angle_to_matrix(noise)
    result[15] = result[15] @ euler(rng.normal(0, 0.12), rng.normal(0, 0.3), rng.normal(0, 0.08))
    return result


@dataclass(frozen=True)
class Stage:
    """Where the clip plays: what turns recorded frames into bodies before the camera."""

    plan: Plan
    key_frame: float
    heading: Float32  # (3, 3) turns the recording so that the person faces +z at the key frame
    origin: Float32  # (3,) the root at the key frame
    target: Float32  # (3,) the pelvis in the camera's frame at the key frame

    def camera(self, frames: Float64) -> tuple[CameraPoses, Float32, Float32]:
        """Returns the camera, the pelvis (N, 3) and rotations (N, 24, 3, 3), both in the camera's frame."""
        rotations, root = poses_at(self.plan.recording, frames)
        rotations = rotations @ self.plan.person.rotations
        walk = np.asarray((root - self.origin) @ self.heading.T, dtype=np.float32)
        seconds = (frames - self.key_frame) / FRAME_RATE
        poses = camera_poses(self.plan.path, self.plan.view.orientation, self.target, seconds, walk)
        rotations[:, 0] = poses.orientation @ self.heading @ rotations[:, 0]
        pelvis = (poses.orientation @ (walk - poses.position)[..., None])[..., 0]
        return poses, np.asarray(pelvis, dtype=np.float32), rotations

    def bodies(self, frames: Float64) -> Bodies:
        """Poses the figure at N moments."""
        poses, pelvis, rotations = self.camera(frames)
        vertices, joints, rest = self.plan.figure.pose(self.plan.person.betas, rotations)
        shift = pelvis - rest[0]
        bare = vertices + shift[:, None]
        normals = np.stack([self.plan.figure.normals(v) for v in bare])
        dressed = bare + normals * thickness(self.plan.figure, self.plan.person.look)[:, None]
        return Bodies(poses, rotations, shift, pelvis, joints + shift[:, None], bare, normals, dressed)


@dataclass(frozen=True)
class Bodies:
    """The figure at N moments, camera frame, metres."""

    poses: CameraPoses
    rotations: Float32
    shift: Float32
    pelvis: Float32
    joints: Float32
    bare: Float32
    normals: Float32
    dressed: Float32


def set_up(plan: Plan, frames: Float64, key_frame: float) -> Stage:
    """Turns the person to the view and puts the camera far enough away for every frame.

    A camera from which the person cannot be seen in every frame, however far away it is, moves less than planned.
    """
    rotations, root = poses_at(plan.recording, np.array([key_frame]))
    rotations = rotations @ plan.person.rotations
    heading = without_heading(rotations)[0, 0] @ rotations[0, 0].T
    while True:
        depth = plan.view.distance
        for _ in range(_ROUNDS):
            target = np.array([*(plan.view.direction * depth), depth], dtype=np.float32)
            stage = Stage(plan, key_frame, heading, root[0], target)
            nearest = float(stage.camera(frames)[1][:, 2].min()) - 1.0  # no joint is a metre nearer than the pelvis
            if nearest >= _LEAST_DEPTH:
                return stage
            depth = 1.3 * depth + _LEAST_DEPTH - nearest
        # From a camera that turns by more than a right angle no distance helps: it has to move less.
        path = replace(plan.path, drift=plan.path.drift / 2, tremor=plan.path.tremor / 2)
        plan = replace(plan, path=path)
