"""Errors over windows that repeat frames, and over processes that have unequal labels."""

import datetime

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from posekit.body import load_body
from posekit.data.body3d.human36m_files import JOINTS17, JOINTS32
from posekit.data.body3d.mpi_inf_3dhp import TEST_JOINTS, TRAIN_JOINTS
from posekit.data.clip_windows import Window
from posekit.data.joint_maps import source_of
from posekit.geometry import axis_angle_to_matrix
from posekit.metrics import mpjpe, pa_mpjpe
from posekit.metrics.mpjpe import joint_errors, pa_joint_errors
from posekit.skeletons import H36M17, LSP14, SPIN49
from posekit_maed.evaluation import HIPS, BodyMetrics, EvaluatedJoints
from tests.parity.maed_summary import summarize

# What the data modules' files are labelled with, and the evaluations that are meant for them.
H36M_FILES = (JOINTS17, JOINTS32, source_of(H36M17))
EVALUATIONS = [
    *((source, joints) for source in H36M_FILES for joints in ("h36m14", "h36m17")),
    (TRAIN_JOINTS, "mpii3d17"),
    (TEST_JOINTS, "mpii3d17"),
    (source_of(LSP14), "spin14"),
    (source_of(SPIN49), "spin14"),
    (source_of(SPIN49), "mpii3d17"),
]


def labels_in_files(body, output, source):
    """Returns joints (N, J, 3) of posed bodies as a data set's files have them, NaN where the body has none."""
    own = {}
    for skeleton in (SPIN49, H36M17) if source in H36M_FILES else (H36M17, SPIN49):
        own |= dict(zip(skeleton.joints, body.joints(output, skeleton.name).unbind(1), strict=True))
    if source.name != SPIN49.name:  # the middle of the face in Human3.6M's and MPI-INF-3DHP's files alike
        own["head"] = body.joints(output, "H36M17")[:, H36M17.index("neck")]
    nowhere = torch.full_like(own["pelvis"], torch.nan)
    return torch.stack([own.get(name, nowhere) for name in source.joints], 1).double().numpy()


@pytest.mark.parametrize(("source", "joints"), EVALUATIONS, ids=lambda value: getattr(value, "name", value))
def test_labels_of_a_data_set_made_from_the_answer_are_no_error(source, joints):
    frames, body = 5, load_body()
    generator = torch.Generator().manual_seed(0)
    turns = axis_angle_to_matrix(0.3 * torch.randn(frames, 24, 3, generator=generator))
    output = body(turns, torch.randn(frames, 10, generator=generator))
    labels = labels_in_files(body, output, source)
    mapped = source.map_to(SPIN49)(labels, np.isfinite(labels).all(-1).astype(float))
    compared = EvaluatedJoints(body, joints)
    assert (mapped.weight[:, compared.target] == 1).all()
    batch = {
        "valid": torch.ones(1, frames, dtype=torch.bool), "sample_id": torch.zeros(1, dtype=torch.int64),
        "joints3d": torch.from_numpy(mapped.points)[None], "joints3d_weight": torch.from_numpy(mapped.weight)[None],
    }  # fmt: skip
    errors = BodyMetrics(len(compared.target))
    errors.add_clips(batch, body, compared, output)
    found = errors.compute()
    for name in ("MPJPE", "PA-MPJPE", "acceleration_error"):
        assert float(found[name]) < 0.01, name


class GivenJoints:
    """Stands for the joints of a body where the test gives them."""

    target = tuple(range(25, 39))

    def __call__(self, body, output):
        return output


@pytest.mark.parametrize("frames", [16, 60, 150, 300])
def test_every_frame_of_a_video_counts_once_whatever_its_length(frames):
    """Windows of 128 frames are padded by reflection: a frame comes again as padding, also before its own turn."""
    generator = torch.Generator().manual_seed(frames)
    wrong = torch.rand(frames, generator=generator)  # metres, of one joint of 14
    target = torch.randn(frames, 49, 3, generator=generator)
    pred = target.clone()
    pred[:, 25, 0] += wrong
    windows = Window.pool(16, 8).of(np.arange(frames), np.ones(frames, bool), train=False)
    errors = BodyMetrics(14)
    for row, valid, answers in zip(*map(torch.from_numpy, windows[:3]), strict=True):
        batch = {
            "valid": valid[None], "answers": answers[None], "row_ids": row[None], "frame": row[None],
            "sample_id": torch.zeros(1, dtype=torch.int64), "track_id": torch.zeros(1, dtype=torch.int64),
            "joints3d": target[row][None], "joints3d_weight": valid.float()[None, :, None].expand(1, 16, 49),
        }  # fmt: skip
        errors.add_clips(batch, None, GivenJoints(), pred[row, 25:39])
    found = errors.compute()
    assert float(found["MPJPE"]) == pytest.approx(1000 * float(wrong.mean()) / 14, rel=1e-5)
    second = (wrong[:-2] - 2 * wrong[1:-1] + wrong[2:]).abs().mean() / 14
    assert float(found["acceleration_error"]) == pytest.approx(1000 * float(second), rel=1e-4)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_frame_with_an_unlabelled_hip_has_no_error_from_the_hips(value):
    generator = torch.Generator().manual_seed(0)
    frames = 6
    target = torch.randn(1, frames, 49, 3, generator=generator)
    pred = target[0, :, 25:39] + 0.1 * torch.randn(frames, 14, 3, generator=generator)
    weight = torch.ones(1, frames, 49)
    weight[0, 2, 25 + 3] = weight[0, 4, 25] = 0
    labels = target.masked_fill(weight[..., None] == 0, value)
    batch = {"valid": torch.ones(1, frames, dtype=torch.bool), "sample_id": torch.zeros(1, dtype=torch.int64)}
    errors = BodyMetrics(14)
    errors.add_clips({**batch, "joints3d": labels, "joints3d_weight": weight}, None, GivenJoints(), pred)
    found = errors.compute()
    wanted, share = target[0, :, 25:39], weight[0, :, 25:39].clone()
    assert float(found["PA-MPJPE"]) == pytest.approx(float(pa_joint_errors(pred, wanted, share)[share > 0].mean()))
    share[2] = 0
    assert float(found["MPJPE"]) == pytest.approx(float(joint_errors(pred, wanted, HIPS)[share > 0].mean()))
    centred = wanted - wanted[:, list(HIPS)].mean(1, keepdim=True)
    still = [centred[share[:, j] > 0, j] for j in range(14)]
    spread = torch.cat([(points - points.mean(0)).norm(dim=-1) for points in still]).mean()
    assert float(found["MPJPE_mean_pose"]) == pytest.approx(1000 * float(spread), rel=1e-5)
    numbers = summarize(pred, labels[0, :, 25:39], weight[0, :, 25:39])
    poses = mpjpe(pred, wanted, share, HIPS)
    assert numbers["MPJPE"] == pytest.approx(float(poses[poses.isfinite()].mean()), rel=1e-5)
    aligned = pa_mpjpe(pred, wanted, weight[0, :, 25:39])
    assert numbers["PA-MPJPE"] == pytest.approx(float(aligned.mean()), rel=1e-5)


def test_accelerations_of_data_that_lack_a_joint_are_those_of_the_others():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(1, 6, 49, 3, generator=generator)
    wrong = 0.1 * torch.randn(6, 14, 3, generator=generator)
    wrong[:, list(HIPS)] = 0
    weight = torch.ones(1, 6, 49)
    weight[..., 25 + 13] = 0  # the head's top
    batch = {
        "valid": torch.ones(1, 6, dtype=torch.bool), "sample_id": torch.zeros(1, dtype=torch.int64),
        "joints3d": target, "joints3d_weight": weight,
    }  # fmt: skip
    errors = BodyMetrics(14)
    errors.add_clips(batch, None, GivenJoints(), target[0, :, 25:39] + wrong)
    expected = (wrong[:-2] - 2 * wrong[1:-1] + wrong[2:]).norm(dim=-1)[:, :13].mean()
    assert float(errors.compute()["acceleration_error"]) == pytest.approx(1000 * float(expected), rel=1e-4)


def test_where_a_person_walks_is_no_error_of_acceleration():
    """Predictions stand at the body's origin, labels in the camera's frame."""
    generator = torch.Generator().manual_seed(0)
    frames = 9
    target = torch.randn(1, frames, 49, 3, generator=generator)
    walk = torch.randn(1, frames, 1, 3, generator=generator)
    batch = {
        "valid": torch.ones(1, frames, dtype=torch.bool), "sample_id": torch.zeros(1, dtype=torch.int64),
        "joints3d": target + walk, "joints3d_weight": torch.ones(1, frames, 49),
    }  # fmt: skip
    errors = BodyMetrics(14)
    errors.add_clips(batch, None, GivenJoints(), target[0, :, 25:39])
    found = errors.compute()
    assert float(found["MPJPE"]) < 1e-3
    assert float(found["acceleration_error"]) < 1e-2


def judge(rank, folder, labelled, queue):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    body, errors = load_body(), BodyMetrics(14)
    if rank in labelled:
        add(errors, body, rank, weight=float(rank == 0))
    queue.put({name: float(value) for name, value in errors.compute().items()})
    dist.destroy_process_group()


def add(errors, body, sample, weight):
    frames = 4
    batch = {
        "valid": torch.ones(1, frames, dtype=torch.bool), "sample_id": torch.tensor([sample]),
        "joints3d": torch.full((1, frames, 49, 3), 0.1), "joints3d_weight": torch.ones(1, frames, 49),
        "body_pose": torch.zeros(1, frames, 24, 3), "body_shape": torch.zeros(1, frames, 10),
        "body_weight": torch.full((1, frames), weight),
    }  # fmt: skip
    output = body(torch.eye(3).expand(frames, 24, 3, 3), torch.zeros(frames, 10))
    errors.add_clips(batch, body, EvaluatedJoints(body, "spin14"), output)


@pytest.mark.parametrize("labelled", [(0, 1), (0,)])
def test_processes_agree_where_one_has_no_body_labels_or_no_batch(tmp_path, labelled):
    """One that left a metric out while the other waits for it would end the run."""
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    folder = str(tmp_path)
    processes = [context.Process(target=judge, args=(rank, folder, labelled, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    found = [queue.get(), queue.get()]
    body, errors = load_body(), BodyMetrics(14)
    for rank in labelled:
        add(errors, body, rank, weight=float(rank == 0))
    expected = {name: float(value) for name, value in errors.compute().items()}
    assert found[0] == pytest.approx(expected, nan_ok=True)
    assert found[1] == pytest.approx(expected, nan_ok=True)
    assert expected["PVE"] == 0
