"""SyntheticPeople: the embedded data set, drawn on the user's own machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from posekit.body.builtin import JOINT_SETS
from posekit.data.batch import ImageTarget
from posekit.data.collate import collate_scenes
from posekit.data.datamodule import PoseDataModule, Split, checked_size
from posekit.data.synthetic.background import background_bank, find_photos
from posekit.data.synthetic.cache import RENDERED_FOLDER, LayerSettings, LayerStore
from posekit.data.synthetic.clip_dataset import DrawnClips, RecordedMotion
from posekit.data.synthetic.clip_settings import CLIP_BOXES, ClipSettings
from posekit.data.synthetic.compositing import Stock
from posekit.data.synthetic.dataset import DrawnCrops, DrawnScenes, SyntheticDataset
from posekit.data.synthetic.domain import DOMAIN_OPTIONS, DOMAINS, restyle_backgrounds, restyle_objects
from posekit.data.synthetic.motion_windows import MotionWindows
from posekit.data.synthetic.objects import object_bank
from posekit.data.synthetic.options import resolve_difficulty
from posekit.errors import UserError, each_in_range, one_of

PICTURES = {"crops": (96, 128), "scenes": (192, 192), "clips": (96, 128)}
VIEWS = (*PICTURES, "motion")
KEYS = ("key", "all")
_FRAMES = {"clips": (3, 3), "motion": (30, 1)}  # frames and frame_step where they are not given
_LONGEST_STEP = 16
_BACKGROUNDS = {"train": 240, "val": 80, "test": 80}


class SyntheticPeople(PoseDataModule):
    """Rendered people in real poses: a body mesh moved by motion capture, dressed, lit and composited. Needs no files.

    Every picture is a function of (seed, split, epoch, index), whatever the workers. People are rendered once, at the
    start, and composited afresh in every epoch. Train, val and test share no motion sequence, shape, look or
    background.

    Four views. ``"crops"``: a ``CropBatch`` of single people. ``"scenes"``: a ``SceneBatch`` of several. ``"clips"``: a
    ``ClipBatch`` of one person who moves as recorded, in front of a hand-held camera, blurred by its exposure, with
    objects passing by. ``"motion"``: a ``MotionBatch`` of the recordings themselves, without pictures: joints of the
    mean shape, the world's z up.

    Args:
        view: ``"crops"``, ``"scenes"``, ``"clips"`` or ``"motion"``.
        train_size: Training pictures or clips per epoch; of motion windows, the most that are taken.
        val_size: Validation pictures, likewise.
        test_size: Test pictures, likewise.
        image_size: [W, H] in px; 96 x 128 for crops and clips and 192 x 192 for scenes when None.
        difficulty: ``"easy"``, ``"hard"``, ``"video_easy"`` or ``"video_hard"``: presets of the options below
            (``posekit.data.synthetic.options``). In ``"video_hard"`` nearly every key frame is blurred and crossed by
            objects; with ``occluders: 0`` only blurred, with ``motion_blur: 0`` only crossed, with both clean.
        truncation: Probability that border or furniture cut the person (crops).
        closeups: Probability that a cut person is a close-up (crops).
        occluders: Mean number of objects in front; in clips they pass by.
        people: Mean number of other people in a crop or clip.
        pose_variety: Strength of poses beyond the recordings: bent and mixed arms, sitting; in clips slight offsets.
        frontal: Probability that a person roughly faces the camera.
        clutter: Strength of background clutter.
        noise: Strength of noise and JPEG.
        blur: Strength of defocus, motion blur of whole pictures and low resolution.
        color: Strength of colour jitter.
        augmentation: Strength of flip, rotation, scale and shift of training crops and clips.
        motion_blur: Longest exposure of clips as a share of the time between frames, 0 to 1.
        camera_motion: Strength of the hand-held camera's movement (clips).
        key_occlusion: Probability that a passing object is in front of the person at the key frame (clips).
        fast_motion: Preference for clips with fast limbs at the key frame.
        occluder_speed: Speed of passing objects over the usual one (clips).
        backgrounds: Folder of photos to use as backgrounds, dealt out to the splits (three at least: one or two are in
            every split; broken ones are left out and named); procedural ones when None.
        scene_people: Least and greatest number of people in a scene.
        frames: Frames of a clip or motion window; 3 and 30 when None. The key frame of a clip is number frames // 2.
        frame_step: Recorded frames (30 a second) from one frame to the next, 1 to 16; 3 for clips and 1 for motion when
            None.
        clip_box: ``"key"``: all frames of a clip are cropped by the key frame's box; ``"frame"``: each by its own.
        keys: Which frames of a clip ``ground_truth`` lists: ``"key"`` frames only, or ``"all"``.
        window_stride: Recorded frames between the starts of two motion windows.
        domain: ``"source"`` (mild looks, soft light, quiet backgrounds) or ``"target"`` (varied looks, hard light,
            clutter, noise): appearance only, the same seed shows the same geometry. None: the usual looks. A domain
            sets clutter, noise, blur and color unless they are given.
        labels: False takes the labels off training crops and clips, for adaptation; val and test keep theirs.
        num_layers: People or clips to render for training; None renders one per picture. Fewer are used again in turn.
        cache: Render at the start; False renders every picture anew, which needs no memory.
        cache_dir: Folder that keeps rendered people between runs; that of the variable POSEKIT_RENDERED when None.
        num_render_workers: Processes that render; every core when None.
        skeleton: Any joint set of ``posekit.skeletons``.
        batch_size: Samples per process and step.
        num_workers: Loader processes.
        val_batch_size: Samples per evaluation batch; ``batch_size`` when None.
        seed: Seed of everything.
        pin_memory: Page-locked batches, for CUDA.
    """

    VIEW_SIZES: ClassVar[dict[str, tuple[int, int]]] = PICTURES
    LABEL_BODY: ClassVar[str] = "builtin"  # whose pose and shape are labels

    def __init__(
        self,
        view: str = "crops",
        train_size: int = 6000,
        val_size: int = 500,
        test_size: int = 500,
        image_size: tuple[int, int] | None = None,
        difficulty: str = "easy",
        truncation: float | None = None,
        closeups: float | None = None,
        occluders: float | None = None,
        people: float | None = None,
        pose_variety: float | None = None,
        frontal: float | None = None,
        clutter: float | None = None,
        noise: float | None = None,
        blur: float | None = None,
        color: float | None = None,
        augmentation: float | None = None,
        motion_blur: float | None = None,
        camera_motion: float | None = None,
        key_occlusion: float | None = None,
        fast_motion: float | None = None,
        occluder_speed: float | None = None,
        backgrounds: str | None = None,
        scene_people: tuple[int, int] = (1, 4),
        frames: int | None = None,
        frame_step: int | None = None,
        clip_box: str = "key",
        keys: str = "key",
        window_stride: int = 15,
        domain: str | None = None,
        labels: bool = True,
        num_layers: int | None = None,
        cache: bool = True,
        cache_dir: str | None = None,
        num_render_workers: int | None = None,
        skeleton: str = "COCO17",
        batch_size: int = 32,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(skeleton, batch_size, num_workers, val_batch_size, seed, pin_memory)
        for what, name, known in (
            ("view", view, VIEWS), ("skeleton", skeleton, JOINT_SETS), ("clip_box", clip_box, CLIP_BOXES),
            ("keys", keys, KEYS), ("domain", domain, DOMAINS),
        ):  # fmt: skip
            one_of(f"{what} of SyntheticPeople", name, known, none=what == "domain")
        self.view = view
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.num_layers = num_layers
        size = PICTURES.get(view, (96, 128)) if image_size is None else image_size
        self.image_size = checked_size("SyntheticPeople", size)
        self.scene_people = _least_and_greatest(scene_people)
        self.options = resolve_difficulty(
            difficulty,
            {
                "truncation": truncation, "closeups": closeups, "occluders": occluders, "people": people,
                "pose_variety": pose_variety, "frontal": frontal, "clutter": clutter, "noise": noise, "blur": blur,
                "color": color, "augmentation": augmentation, "motion_blur": motion_blur,
                "camera_motion": camera_motion, "key_occlusion": key_occlusion, "fast_motion": fast_motion,
                "occluder_speed": occluder_speed,
            },
            DOMAIN_OPTIONS.get(domain or "", {}),
        )  # fmt: skip
        usual = _FRAMES.get(view, (1, 1))
        self.frames = usual[0] if frames is None else frames
        self.frame_step = usual[1] if frame_step is None else frame_step
        self.clip_box, self.keys, self.window_stride = clip_box, keys, window_stride
        self.domain, self.labels = domain, labels
        self.backgrounds = backgrounds
        self.cache = cache
        self.cache_dir = cache_dir
        self.num_render_workers = num_render_workers
        self._targets: dict[str, list[ImageTarget]] = {}
        self._check()

    def _check(self) -> None:
        """Rejects what cannot work before anything is drawn.

        Raises:
            UserError: A size is not positive, the backgrounds folder is missing or empty, or options contradict.
        """
        positive = {
            **{f"{split}_size": size for split, size in self.sizes.items()},
            "num_layers": 1 if self.num_layers is None else self.num_layers,
            "frames": self.frames,
            "frame_step": self.frame_step,
            "window_stride": self.window_stride,
        }
        for name, value in positive.items():
            if value <= 0:
                raise UserError(f"SyntheticPeople: {name} is {value}, but must be at least 1")
        if self.frame_step > _LONGEST_STEP:
            raise UserError(f"SyntheticPeople: frame_step is {self.frame_step}, but must be at most {_LONGEST_STEP}")
        if not self.labels and self.view not in ("crops", "clips"):
            raise UserError(f"SyntheticPeople: labels: false is for the views crops and clips, not {self.view}")
        if self.backgrounds is not None:
            find_photos(self.backgrounds)

    def make_dataset(self, split: Split) -> SyntheticDataset | RecordedMotion:
        """Draws a split's people and backgrounds."""
        split = "test" if split == "predict" else split  # there are no people without labels
        length = self.sizes[split]
        if self.view == "motion":
            windows = MotionWindows(split, self.skeleton, self.frames, self.frame_step, self.window_stride)
            return RecordedMotion(windows, length)
        labeled = self.labels or split != "train"
        if self.view == "clips":
            settings = ClipSettings(
                self.seed, split, self.image_size, self.options, self.skeleton, self.domain, self.frames,
                self.frame_step, self.clip_box,
            )  # fmt: skip
            settings.check()
            return DrawnClips(self._store(settings), self._stock(split), length, self.options, settings, labeled)
        if self.view == "scenes":
            # Scenes cut people by their own border; a layer is a whole person, as large as the scene is high.
            whole, size = replace(self.options, truncation=0.0), (int(self.image_size[1] * 0.75), self.image_size[1])
            layers = self._store(LayerSettings(self.seed, split, size, whole, self.skeleton, self.domain))
            return DrawnScenes(layers, self._stock(split), length, self.options, self.image_size, self.scene_people)
        people = LayerSettings(self.seed, split, self.image_size, self.options, self.skeleton, self.domain)
        return DrawnCrops(self._store(people), self._stock(split), length, self.options, self.image_size, labeled)

    def _store(self, settings: LayerSettings) -> LayerStore:
        """Renders a split's people."""
        count = self.sizes[settings.split]
        if self.num_layers is not None and settings.split == "train":
            count = min(count, self.num_layers)
        named = self.cache_dir or os.environ.get(RENDERED_FOLDER)
        folder = Path(named) if named else None
        return LayerStore(settings, count, self.cache, self.num_render_workers, folder)

    def _stock(self, split: str) -> Stock:
        """Makes a split's backgrounds and objects."""
        side = max(288, int(1.5 * max(self.image_size)))
        bank = background_bank(self.seed, split, side, _BACKGROUNDS[split], self.options.clutter, self.backgrounds)
        objects = object_bank(self.seed, split)
        return Stock(restyle_backgrounds(bank, self.domain), restyle_objects(objects, self.domain))

    def ground_truth(self, split: Split) -> list[ImageTarget] | None:
        """Returns every picture's people in the picture's own px, of clips by ``keys``; None for motion."""
        if self.view == "motion":
            return None
        if split not in self._targets:
            dataset = self.dataset(split)
            assert isinstance(dataset, SyntheticDataset)
            everything = isinstance(dataset, DrawnClips) and self.keys == "all"
            rows = [dataset.targets(i) if everything else [dataset.target(i)] for i in range(len(dataset))]
            self._targets[split] = [target for row in rows for target in row]
        return self._targets[split]

    def collate(self) -> Callable[[list[Any]], Any] | None:
        """Scenes differ in their number of people."""
        return collate_scenes if self.view == "scenes" else None


def _least_and_greatest(people: Any) -> tuple[int, int]:
    counts = each_in_range("SyntheticPeople", "scene_people", people, "[1, inf)", whole=True)
    if len(counts) != 2 or counts[1] < counts[0]:
        raise UserError(f"SyntheticPeople: scene_people is {counts}, but must be [least, greatest]")
    return counts[0], counts[1]
