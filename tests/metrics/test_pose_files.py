"""``posekit evaluate crowdpose | mpii | h36m | 3dhp``: files as the official tools read them, tables, mistakes."""

import json

import numpy as np
import pytest
import torch

from posekit.cli.evaluate import run
from posekit.data.body3d.mpi_inf_3dhp import TEST_JOINTS
from posekit.data.joint_maps import source_of
from posekit.errors import UserError
from posekit.metrics import evaluate_coco_keypoints, evaluate_crowdpose, mpjpe, pa_mpjpe
from posekit.metrics.bench import bench_metrics, bench_procrustes
from posekit.metrics.mpjpe import joint_errors, n_joint_errors, pa_joint_errors
from posekit.skeletons import COCO17, CROWDPOSE14, H36M17, LIMB17, SPIN49, get_skeleton
from tests.metrics.coco_made import NAMES, made, official
from tests.metrics.test_pose_errors import mpii_reference
from tests.shared import SHARED, requires_shared


def command(kind, *words, out):
    run([kind, *map(str, words), "--json", str(out)])
    return json.loads(out.read_text())


def rejected(kind, *words, match):
    with pytest.raises(UserError, match=match) as caught:
        run([kind, *map(str, words)])
    assert "\n" not in str(caught.value)


@requires_shared
def test_crowdpose_area_equals_xtcocotools():
    folder = SHARED / "golden" / "logocap" / "cocoeval"
    want = json.loads((folder / "expected.json").read_text())["xtcocotools"]["use_area_false_stats"]
    gt = json.loads((folder / "gt.json").read_text())
    for image in gt["images"]:
        image["crowdIndex"] = 0.5
    got = evaluate_crowdpose(gt, folder / "dt.json", COCO17.sigmas)
    for name, number in zip(NAMES, want, strict=True):
        if name in got:
            assert got[name] == pytest.approx(number, abs=1e-12)
    assert got["APmedium"] == got["AP"]
    assert got["APeasy"] == got["APhard"] == -1


def test_crowdpose_split(tmp_path):
    gt, results = made(2, joints=14, ties=False)
    for a in gt["annotations"]:
        a["area"] = a["bbox"][2] * a["bbox"][3] * 0.53
    for i, image in enumerate(gt["images"]):
        image["crowdIndex"] = [0.0, 0.19, 0.2, 0.79, 0.8, 1.0][i % 6]
    want = official(gt, results, sigmas=CROWDPOSE14.sigmas)
    got = evaluate_crowdpose(gt, results)
    assert got["AP"] == pytest.approx(want["AP"], abs=1e-12)
    hard = [i["id"] for i in gt["images"] if i["crowdIndex"] >= 0.8]
    assert got["APhard"] == pytest.approx(evaluate_coco_keypoints(gt, results, CROWDPOSE14.sigmas, hard)["AP"])
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    written = command("crowdpose", tmp_path / "gt.json", tmp_path / "dt.json", out=tmp_path / "o.json")
    assert {name: value for name, value in written.items() if not name.startswith("AP/")} == got
    assert len(written) == len(got) + 14
    del gt["images"][3]["crowdIndex"]
    with pytest.raises(UserError, match=r"images\[3\]"):
        evaluate_crowdpose(gt, results)


def test_mpii(tmp_path, capsys):
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    target = rng.uniform(0, 200, (30, 16, 2))
    pred = target + rng.normal(0, 12, target.shape)
    boxes = np.concatenate([rng.uniform(0, 50, (30, 2)), rng.uniform(60, 110, (30, 2))], 1)
    visible = rng.random((30, 16)) > 0.2
    savemat(
        tmp_path / "gt_valid.mat",
        {
            "pos_gt_src": target.transpose(1, 2, 0) + 1, "jnt_missing": 1 - visible.T.astype(float),
            "headboxes_src": boxes.reshape(30, 2, 2).transpose(1, 2, 0),
        },
    )  # fmt: skip
    savemat(tmp_path / "pred.mat", {"preds": pred + 1})
    people = [
        {"joints": t.tolist(), "joints_vis": v.astype(int).tolist(), "head_box": b.tolist()}
        for t, v, b in zip(target, visible, boxes, strict=True)
    ]
    (tmp_path / "gt.json").write_text(json.dumps(people))
    (tmp_path / "pred.json").write_text(json.dumps(pred.tolist()))
    want = mpii_reference(pred, target, boxes, visible, 0.5)[1]
    for gt in ("gt_valid.mat", "gt.json"):
        for results in ("pred.mat", "pred.json"):
            got = command("mpii", tmp_path / gt, tmp_path / results, out=tmp_path / "o.json")
            assert got["PCKh"] == pytest.approx(want)
    assert "Mean@0.1" in capsys.readouterr().out
    (tmp_path / "short.json").write_text(json.dumps(pred[:-1].tolist()))
    rejected("mpii", tmp_path / "gt.json", tmp_path / "short.json", match="29 poses for 30")
    del people[4]["head_box"]
    (tmp_path / "gt.json").write_text(json.dumps(people))
    rejected("mpii", tmp_path / "gt.json", tmp_path / "pred.json", match=r"person \[4\] has no head_box")
    rejected("mpii", tmp_path / "no.mat", tmp_path / "pred.json", match="does not exist")
    rejected("mpii", tmp_path / "pred.mat", tmp_path / "pred.json", match="no 'pos_gt_src'; it has preds")
    rejected("mpii", tmp_path / "gt_valid.mat", tmp_path / "gt_valid.mat", match="no 'preds'")
    savemat(tmp_path / "u12.mat", {"RELEASE": {"annolist": 1}})  # as the official annotations
    rejected("mpii", tmp_path / "u12.mat", tmp_path / "pred.json", match="is MPII's RELEASE .* take gt_valid.mat")
    rejected("mpii", tmp_path / "gt_valid.mat", tmp_path / "u12.mat", match="no 'preds'; it has no numbers at all")
    (tmp_path / "bad.mat").write_text("no matlab")
    rejected("mpii", tmp_path / "bad.mat", tmp_path / "pred.json", match=r"no \.mat file")
    savemat(tmp_path / "flat.mat", {"pos_gt_src": np.ones((16, 2)), "jnt_missing": 1, "headboxes_src": 1})
    rejected("mpii", tmp_path / "flat.mat", tmp_path / "pred.json", match=r"'pos_gt_src' has shape \(16, 2\)")
    pred[3, 2] = np.nan
    savemat(tmp_path / "pred.mat", {"preds": pred + 1})
    rejected("mpii", tmp_path / "gt_valid.mat", tmp_path / "pred.mat", match=r"pose \[3\] holds NaN")


@pytest.mark.parametrize(
    ("array", "value", "match"),
    [
        ("jnt_missing", 2, r"gt.mat: jnt_missing of person \[3\] holds 2, not 0 or 1$"),
        ("jnt_missing", np.nan, r"gt.mat: jnt_missing of person \[3\] holds nan, not 0 or 1$"),
        ("pos_gt_src", np.nan, r"gt.mat: person \[3\]'s pos_gt_src holds NaN or infinity"),
    ],
)
def test_mpii_names_faulty_labels_of_the_mat(tmp_path, array, value, match):
    from scipy.io import savemat

    truth = {"pos_gt_src": np.ones((16, 2, 5)), "jnt_missing": np.zeros((16, 5)), "headboxes_src": np.ones((2, 2, 5))}
    truth["jnt_missing"][2, 1], truth["headboxes_src"][1] = 1, 9
    truth["pos_gt_src"][2, :, 1] = np.nan  # not labelled
    savemat(tmp_path / "pred.mat", {"preds": np.ones((5, 16, 2))})
    savemat(tmp_path / "gt.mat", truth)
    assert command("mpii", tmp_path / "gt.mat", tmp_path / "pred.mat", out=tmp_path / "o.json")["PCKh"] == 100
    truth[array][4, ..., 3] = value
    savemat(tmp_path / "gt.mat", truth)
    rejected("mpii", tmp_path / "gt.mat", tmp_path / "pred.mat", match=match)


@pytest.mark.parametrize(
    ("results", "match"),
    [
        ([{"x": 1}], r"result \[0\] has no keypoints"),
        ([[1, 2, 3]], r"poses of shape \(1, 3\)"),
        (3, "no list of poses"),
    ],
)
def test_mpii_names_results_of_another_form(tmp_path, results, match):
    person = {"joints": [[0, 0]] * 16, "joints_vis": [1] * 16, "head_box": [0, 0, 5, 5]}
    (tmp_path / "gt.json").write_text(json.dumps([person]))
    (tmp_path / "pred.json").write_text(json.dumps(results))
    rejected("mpii", tmp_path / "gt.json", tmp_path / "pred.json", match=match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (None, r"person \[0\] has no joints"),
        ({"joints": 5}, r"person \[0\] has no joints"),
        ({"joints": [[0, 0]] * 15 + [3]}, "something that is no number"),
        ({"joints": [0] * 16}, "joints must be 16 pairs"),
    ],
)
def test_mpii_names_people_of_another_form(tmp_path, change, match):
    person = {"joints": [[0, 0]] * 16, "joints_vis": [1] * 16, "head_box": [0, 0, 5, 5]}
    (tmp_path / "gt.json").write_text(json.dumps([[1] if change is None else {**person, **change}]))
    (tmp_path / "pred.json").write_text(json.dumps([[[0, 0]] * 16]))
    rejected("mpii", tmp_path / "gt.json", tmp_path / "pred.json", match=match)


def test_3d_files_of_another_form_are_named(tmp_path):
    np.savez(tmp_path / "h36m.npz", S=np.random.default_rng(0).random((3, 17, 3)))
    rejected("h36m", tmp_path / "h36m.npz", tmp_path / "h36m.npz", "--root", 40, match="root is joint 40.*0 to 16")
    np.savez(tmp_path / "gt.npz", TS1=np.zeros((4, 17, 3)))
    np.savez(tmp_path / "short.npz", TS1=np.zeros((4, 17, 3)), TS1_valid=np.ones(3))
    np.savez(tmp_path / "number.npz", TS1=np.float64(3))
    (tmp_path / "cut.json").write_text('{"TS1": [')
    rejected("3dhp", tmp_path / "gt.npz", tmp_path / "cut.json", match="file .*cut.json is truncated or no JSON")
    rejected("3dhp", tmp_path / "gt.npz", tmp_path / "number.npz", match=r"TS1 has shape \(\)")
    for name, content in {"empty": {}, "flags": {"TS1_valid": [1]}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    rejected("3dhp", tmp_path / "empty.json", tmp_path / "empty.json", match=r"empty.json has no sequence")
    rejected("3dhp", tmp_path / "flags.json", tmp_path / "flags.json", match="has TS1_valid, but no sequence TS1")
    np.savez(tmp_path / "none.npz", TS1=np.zeros((4, 17, 3)), TS1_valid=np.zeros(4))
    rejected("3dhp", tmp_path / "none.npz", tmp_path / "gt.npz", match="TS1 has no valid frame")
    rejected("3dhp", tmp_path / "short.npz", tmp_path / "gt.npz", match=r"TS1_valid has shape \(3,\) for 4 frames")


def test_h36m(tmp_path, capsys):
    rng = np.random.default_rng(0)
    target, pred = rng.standard_normal((2, 6, 17, 3))
    names = [f"S9_{a}_1.54138969_{i:06d}.jpg" for a in ("Walking", "Eating") for i in range(3)]
    np.savez(tmp_path / "gt.npz", S=np.concatenate([target, np.ones((6, 17, 1))], -1), imgname=names)
    np.save(tmp_path / "pred.npy", pred * 1000)
    np.savez(tmp_path / "pred.npz", joints3d=pred)
    got = command("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", out=tmp_path / "o.json")
    a, b = torch.tensor(pred), torch.tensor(target)
    assert got["MPJPE"] == pytest.approx(mpjpe(a, b).mean().item())
    assert got["PA-MPJPE"] == pytest.approx(pa_mpjpe(a, b).mean().item())
    assert got["MPJPE/action/Walking"] == pytest.approx(mpjpe(a[:3], b[:3]).mean().item())
    assert got["MPJPE/mean of actions"] == pytest.approx(got["MPJPE"])
    assert got["MPJPE/pelvis"] == 0
    assert "Eating" in capsys.readouterr().out
    np.savez(tmp_path / "bytes.npz", S=target, imgname=np.array(names, dtype="S"))
    assert command("h36m", tmp_path / "bytes.npz", tmp_path / "pred.npz", out=tmp_path / "o.json") == got
    np.save(tmp_path / "gt.npy", target * 1000)
    assert command("h36m", tmp_path / "gt.npy", tmp_path / "pred.npy", "--unit", "mm", out=tmp_path / "o.json")[
        "MPJPE"
    ] == pytest.approx(got["MPJPE"])
    np.save(tmp_path / "short.npy", pred[:2])
    rejected("h36m", tmp_path / "gt.npz", tmp_path / "short.npy", match=r"\(2, 17, 3\), gt.npz has \(6, 17, 3\)")
    rejected("h36m", tmp_path / "gt.npz", tmp_path / "nothing.npy", match="does not exist")
    np.savez(tmp_path / "odd.npz", x=pred)
    rejected("h36m", tmp_path / "gt.npz", tmp_path / "odd.npz", match="it has x")
    (tmp_path / "text.npy").write_text("text")
    rejected("h36m", tmp_path / "gt.npz", tmp_path / "text.npy", match="no numpy file")
    (tmp_path / "ragged.json").write_text("[[[1, 2, 3]], [[1, 2]]]")
    rejected("h36m", tmp_path / "gt.npz", tmp_path / "ragged.json", match="different length")


@pytest.mark.parametrize("value", [None, 0, np.nan])
def test_h36m_never_looks_under_an_unlabelled_root(tmp_path, capsys, value):
    rng = np.random.default_rng(0)
    target = rng.normal(size=(10, 17, 3)) * 0.4
    pred, weight = target + 0.05 * rng.normal(size=target.shape), np.ones((10, 17))
    weight[0, 0] = weight[1, 5] = 0
    labels = target.copy()
    labels[weight == 0] = labels[weight == 0] if value is None else value
    np.savez(tmp_path / "gt.npz", S=np.concatenate([labels, weight[..., None]], -1))
    np.savez(tmp_path / "pred.npz", joints3d=pred)
    got = command("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", out=tmp_path / "o.json")
    a, b, w = map(torch.from_numpy, (pred, target, weight))
    for name, errors in (("MPJPE", joint_errors(a, b, 0)), ("N-MPJPE", n_joint_errors(a, b, w, 0))):
        assert got[name] == pytest.approx(errors[1:][w[1:] > 0].mean().item()), name
    assert got["PA-MPJPE"] == pytest.approx(pa_joint_errors(a, b, w)[w > 0].mean().item())
    assert got["poses without root"] == 1
    note = "note: 1 pose has no labelled root (pelvis), of 10: MPJPE and N-MPJPE leave them out"
    assert note in " ".join(capsys.readouterr().out.split())


def test_h36m_means_over_the_actions_that_have_a_number(tmp_path):
    target, pred = np.random.default_rng(0).normal(size=(2, 6, 17, 3))
    weight = np.ones((6, 17, 1))
    weight[:2, 0] = 0
    names = [f"S9_{action}_1.54138969_{i:06d}.jpg" for action, n in (("Walking", 2), ("Eating", 4)) for i in range(n)]
    np.savez(tmp_path / "gt.npz", S=np.concatenate([target, weight], -1), imgname=names)
    np.savez(tmp_path / "pred.npz", joints3d=pred)
    got = command("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", out=tmp_path / "o.json")
    assert got["MPJPE/mean of actions"] == pytest.approx(got["MPJPE/action/Eating"]) == pytest.approx(got["MPJPE"])
    both = [got[f"PA-MPJPE/action/{action}"] for action in ("Walking", "Eating")]
    assert got["PA-MPJPE/mean of actions"] == pytest.approx(np.mean(both))


def test_h36m_refuses_negative_weights(tmp_path):
    poses = np.random.default_rng(0).normal(size=(4, 17, 4))
    poses[..., 3] = 1
    np.savez(tmp_path / "pred.npz", joints3d=poses[..., :3])
    poses[2, 6, 3] = -0.5
    np.savez(tmp_path / "gt.npz", S=poses)
    match = r"gt.npz: pose \[2\] has a weight below 0: -0.5$"
    rejected("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", match=match)


def shuffled(path, rng, skeleton, points, **more):
    """Writes poses with their joints in an order of its own."""
    order = rng.permutation(len(skeleton))
    names = np.array(skeleton.joints)[order]
    np.savez(path, joints3d=points[:, order], skeleton=skeleton.name, joints=names, **more)


@pytest.mark.parametrize(
    ("name", "count"), [("LIMB17", 15), ("SPIN49", 17), ("SMPL24", 14), ("LSP14", 14), ("H36M17", 17)]
)
def test_h36m_takes_the_joints_that_both_files_name(tmp_path, capsys, name, count):
    rng = np.random.default_rng(0)
    target, skeleton = rng.standard_normal((6, 17, 3)), get_skeleton(name)
    mapped = source_of(H36M17).map_to(skeleton)
    points = np.where(
        mapped.present[:, None], mapped(target).points, 7.0
    )  # the joints that no one compares lie far off
    np.savez(tmp_path / "gt.npz", S=target)
    shuffled(tmp_path / "pred.npz", rng, skeleton, points)
    words = ["--root", str(H36M17.index("left_hip"))]
    got = command("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", *words, out=tmp_path / "o.json")
    assert (got["joints"], got["poses"]) == (count, 6)
    assert max(got["MPJPE"], got["PA-MPJPE"], got["N-MPJPE"], got["MPJPE/left_knee"]) < 1e-6
    assert f"note: {count} joints compared, by name: pred.npz has {len(skeleton)} of {name}" in capsys.readouterr().out
    turned = points[:, rng.permutation(len(skeleton))]
    np.savez(tmp_path / "pred.npz", joints3d=turned, skeleton=name)
    assert command("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", *words, out=tmp_path / "o.json")["MPJPE"] > 300
    np.savez(tmp_path / "named.npz", S=points, joints=skeleton.joints)  # and the other way round
    np.savez(tmp_path / "h36m.npz", joints3d=target, skeleton="H36M17")
    words = ["--root", str(skeleton.index("left_hip"))]
    back = command("h36m", tmp_path / "named.npz", tmp_path / "h36m.npz", *words, out=tmp_path / "o.json")
    assert back["PA-MPJPE"] < 1e-6 or name in ("LIMB17", "SMPL24")  # whose pelvis or spine is another


def test_h36m_reads_a_predictions_own_files(tmp_path):
    rng = np.random.default_rng(0)
    target = rng.standard_normal((4, 17, 3))
    found = source_of(H36M17).map_to(LIMB17)(target).points
    ids = {"image_id": np.arange(4), "sample_id": np.arange(4)}
    np.savez(tmp_path / "results.npz", joints3d=found, skeleton="LIMB17", joints=LIMB17.joints, **ids)
    rows = [
        {"joints3d": pose.tolist(), "image_id": i, "sample_id": i, "skeleton": "LIMB17"} for i, pose in enumerate(found)
    ]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    np.savez(tmp_path / "gt.npz", S=1000 * target)
    for name in ("results.npz", "results.json"):  # metres, whatever the unit of the labels
        got = command("h36m", tmp_path / "gt.npz", tmp_path / name, "--unit", "mm", out=tmp_path / "o.json")
        assert got["joints"] == 15
        assert got["MPJPE"] < 1e-6
    rows[2]["skeleton"] = "SPIN49"
    (tmp_path / "results.json").write_text(json.dumps(rows))
    rejected("h36m", tmp_path / "gt.npz", tmp_path / "results.json", match="several joint sets: LIMB17; SPIN49")


def test_h36m_refuses_joints_that_it_cannot_tell(tmp_path):
    poses = np.random.default_rng(0).standard_normal((3, 17, 3))
    np.savez(tmp_path / "gt.npz", S=poses)

    def wrong(match, *words, **arrays):
        np.savez(tmp_path / "pred.npz", **{"joints3d": poses, **arrays})
        rejected("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", *words, match=match)

    own = [f"marker_{k}" for k in range(17)]
    wrong(r"pred.npz has other joints than gt.npz \(marker_0; .*maps are known between COCO17, ", joints=own)
    wrong(r"unknown skeleton in pred.npz, which has no joints' names 'MINE'; known: .*LIMB17", skeleton="MINE")
    wrong("17 joints are named, but its poses have 16", joints3d=poses[:, :16], skeleton="LIMB17")
    wrong("joint 'nose' is named twice", joints=["nose"] * 17)
    wrong("unknown joint of LIMB17, the joint set of pred.npz, 'marker_0'", skeleton="LIMB17", joints=own)
    wrong(r"root is joint 0 \(pelvis\), which pred.npz lacks; give --root of: .*4 left_hip", skeleton="COCO17")
    wrong("and gt.npz .* share 0 joints, 3 are needed", skeleton="SPIN49", joints=SPIN49.joints[:17])
    np.savez(tmp_path / "pred.npz", joints3d=poses, joints=poses)  # numbers are no names
    assert "joints" not in command("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", out=tmp_path / "o.json")
    np.savez(tmp_path / "gt.npz", S=poses, joints=own)
    np.savez(tmp_path / "pred.npz", joints3d=poses[:, ::-1], joints=own[::-1])
    got = command("h36m", tmp_path / "gt.npz", tmp_path / "pred.npz", out=tmp_path / "o.json")
    assert got["MPJPE"] == got["MPJPE/marker_3"] == 0


def prediction(truth, skeleton=LIMB17):
    """A prediction's rows on all frames of sequences in mm, without error; joints that are in none lie far off."""
    mapped = TEST_JOINTS.map_to(skeleton)
    points = [np.where(mapped.present[:, None], mapped(poses).points / 1000, 9.0) for poses in truth.values()]
    count = [len(part) for part in points]
    ids = np.concatenate([number * 10**7 + np.arange(size) for number, size in enumerate(count)])
    return {
        "joints3d": np.concatenate(points), "image_id": ids, "sample_id": np.arange(len(ids)),
        "video": np.repeat(list(truth), count), "skeleton": skeleton.name, "joints": skeleton.joints,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "count"), [("LIMB17", 15), ("SPIN49", 17), ("H36M17", 17)])
def test_3dhp_takes_a_predictions_rows_of_another_joint_set(tmp_path, capsys, name, count):
    rng = np.random.default_rng(0)
    truth = {f"TS{i}": rng.normal(0, 300, (i, 17, 3)) for i in (2, 5)}
    np.savez(tmp_path / "gt.npz", TS2_valid=[1, 0], **truth)
    rows = prediction(truth, get_skeleton(name))
    mixed = rng.permutation(len(rows["image_id"]))
    rows |= {key: rows[key][mixed] for key in ("joints3d", "image_id", "sample_id", "video")}
    kept = ~((rows["video"] == "TS2") & (rows["image_id"] == 1))  # not a valid frame
    np.savez(tmp_path / "results.npz", **{k: v[kept] if len(v) == len(kept) else v for k, v in rows.items()})
    got = command("3dhp", tmp_path / "gt.npz", tmp_path / "results.npz", out=tmp_path / "o.json")
    assert (got["joints"], got["frames"], got["PCK"], got["PCK/head_top"]) == (count, 6, 100, 100)
    assert max(got["MPJPE"], got["PA-MPJPE"], got["MPJPE/TS5"]) < 1e-6
    assert f"note: {count} joints compared, by name: results.npz has " in capsys.readouterr().out
    np.savez(tmp_path / "results.npz", **rows | {"joints3d": rows["joints3d"][::-1]})
    assert command("3dhp", tmp_path / "gt.npz", tmp_path / "results.npz", out=tmp_path / "o.json")["MPJPE"] > 100
    arrays = {key: 1000 * prediction({key: poses}, get_skeleton(name))["joints3d"] for key, poses in truth.items()}
    np.savez(tmp_path / "arrays.npz", skeleton=name, **arrays)
    again = command("3dhp", tmp_path / "gt.npz", tmp_path / "arrays.npz", out=tmp_path / "o.json")
    assert again == pytest.approx(got, abs=1e-6)


def test_3dhp_refuses_rows_that_it_cannot_place(tmp_path):
    truth = {"TS1": np.random.default_rng(0).normal(0, 300, (4, 17, 3))}
    np.savez(tmp_path / "gt.npz", **truth)
    rows = prediction(truth)

    def wrong(match, **arrays):
        np.savez(tmp_path / "results.npz", **{k: v for k, v in {**rows, **arrays}.items() if v is not None})
        rejected("3dhp", tmp_path / "gt.npz", tmp_path / "results.npz", match=match)

    wrong("does not say which sequence its rows are of.*posekit predict --data MPIINF3DHP, or one array", video=None)
    wrong("has no sequence TS1; it has TS2", video=["TS2"] * 4)
    wrong("frame 9 of TS1, which has 4", image_id=np.array([0, 1, 2, 9]))
    wrong("TS1 has frames with several poses", image_id=np.array([0, 1, 2, 2]))
    wrong("video and image_id must have one name and one number for each", video=["TS1"] * 3)
    wrong("image_id .3. holds NaN", image_id=np.array([0, 1, 2, np.nan]))
    wrong(r"results.npz \(COCO17\) has no pelvis", **prediction(truth, COCO17))
    first = {key: rows[key][2:] for key in ("joints3d", "image_id", "sample_id", "video")}
    wrong("no pose for 2 of the 4 valid frames of TS1, the first of them frame 0", **first)
    np.savez(tmp_path / "gt.npz", joints=TEST_JOINTS.joints[::-1], **truth)
    wrong("gt.npz: the ground truth's joints must be head_top, neck, ")


def test_3dhp(tmp_path):
    rng = np.random.default_rng(0)
    truth = {f"TS{i}": rng.normal(0, 300, (5 + i, 17, 3)) for i in (1, 2)}
    valid = np.array([1, 1, 0, 1, 1, 1])
    found = {k: v + rng.normal(0, 100, v.shape) for k, v in truth.items()}
    np.savez(tmp_path / "gt.npz", TS1_valid=valid, **truth)
    np.savez(tmp_path / "pred.npz", TS1=found["TS1"][valid > 0], TS2=found["TS2"])
    got = command("3dhp", tmp_path / "gt.npz", tmp_path / "pred.npz", out=tmp_path / "o.json")
    error, aligned = [], []
    for name, keep in (("TS1", valid > 0), ("TS2", slice(None))):
        a, b = found[name][keep], truth[name][keep]
        aligned.append(pa_mpjpe(*(torch.from_numpy(p / 1000) for p in (a, b))).numpy())
        error.append(np.linalg.norm((a - a[:, 14:15]) - (b - b[:, 14:15]), axis=-1))
    error = np.concatenate(error)
    assert got["PCK"] == pytest.approx(100 * (error[:, :14] < 150).mean())
    assert got["AUC"] == pytest.approx(100 * np.mean([(error[:, :14] < t).mean() for t in range(0, 151, 5)]))
    assert got["MPJPE"] == pytest.approx(error.mean())
    assert got["PA-MPJPE"] == pytest.approx(np.concatenate(aligned).mean())
    assert got["PA-MPJPE/TS2"] == pytest.approx(aligned[1].mean())
    assert got["PCK/head_top"] == pytest.approx(100 * (error[:, 0] < 150).mean())
    np.savez(tmp_path / "one.npz", TS1=found["TS1"])
    rejected("3dhp", tmp_path / "gt.npz", tmp_path / "one.npz", match="no sequence TS2; it has TS1")
    np.savez(tmp_path / "few.npz", TS1=found["TS1"][:2], TS2=found["TS2"])
    rejected("3dhp", tmp_path / "gt.npz", tmp_path / "few.npz", match="TS1 has shape")
    (tmp_path / "folder").mkdir()
    rejected("3dhp", tmp_path / "folder", tmp_path / "pred.npz", match=r"annot_data\.mat")


def test_the_wrong_unit_is_refused(tmp_path):
    truth = np.random.default_rng(0).normal(0, 300, (4, 17, 3))
    truth[0] = 0  # not labelled, or not a person: the median counts
    np.savez(tmp_path / "mm.npz", S=truth)
    np.savez(tmp_path / "m.npz", S=truth / 1000)
    large, small = [tmp_path / "mm.npz"] * 2, [tmp_path / "m.npz"] * 2
    rejected("h36m", *large, match=r"mm.npz: its poses extend over 1\S+ m, .* are in mm, give --unit mm$")
    assert command("h36m", *large, "--unit", "mm", out=tmp_path / "o.json")["MPJPE"] == 0
    rejected("h36m", *small, "--unit", "mm", match=r"m.npz: its poses extend over 1\S+ mm, .* in m, give --unit m$")
    np.savez(tmp_path / "mm.npz", TS1=truth)
    np.savez(tmp_path / "m.npz", TS1=truth / 1000)
    rejected("3dhp", *small, match=r"m.npz: its poses extend over .* give --unit m$")
    rejected("3dhp", *large, "--unit", "m", match=r"mm.npz: its poses extend over .* give --unit mm$")
    assert command("3dhp", *small, "--unit", "m", out=tmp_path / "o.json")["MPJPE"] == 0


def test_files_in_two_units_are_told(tmp_path, capsys):
    truth = np.random.default_rng(0).normal(0, 0.3, (4, 17, 3))
    for name in ("S", "TS1"):
        np.savez(tmp_path / "m.npz", **{name: truth})
        np.savez(tmp_path / "mm.npz", **{name: truth * 1000})
        words = [tmp_path / "m.npz", tmp_path / "mm.npz", "--unit", "m"]
        command("h36m" if name == "S" else "3dhp", *words, out=tmp_path / "o.json")
        assert "is one of the files in another unit? --unit is of both" in " ".join(capsys.readouterr().out.split())
    np.savez(tmp_path / "none.npz", S=np.zeros((0, 17, 3)))
    rejected("h36m", tmp_path / "none.npz", tmp_path / "none.npz", match=r"none.npz holds no pose$")


def test_3dhp_tells_of_two_units_once(tmp_path, capsys):
    truth = {f"TS{i}": np.random.default_rng(i).normal(0, 0.3, (4, 17, 3)) for i in range(1, 7)}
    np.savez(tmp_path / "m.npz", **truth)
    np.savez(tmp_path / "mm.npz", **{name: 1000 * poses for name, poses in truth.items()})
    command("3dhp", tmp_path / "m.npz", tmp_path / "mm.npz", "--unit", "m", out=tmp_path / "o.json")
    assert capsys.readouterr().out.count("note:") == 1


def test_files_of_pickled_dicts_are_named(tmp_path):
    np.savez(tmp_path / "data.npz", positions_3d=np.array({"S1": {"Walking": np.zeros((2, 32, 3))}}, dtype=object))
    words = [tmp_path / "data.npz"] * 2
    rejected("h36m", *words, match=r"holds pickled objects, .*world coordinates\); needed is an array S \(N, J, 3\)")
    rejected("3dhp", *words, match=r"data.npz holds pickled objects, .*; needed is an array TS1 \(F, 17, 3\)")


def test_benchmarks_run():
    report = bench_metrics(images=150, repeats=1)
    assert report["largest_difference"] < 1e-12
    assert bench_procrustes(poses=200, repeats=1)["largest_difference_mm"] < 1e-6


def test_3dhp_reads_the_official_annotation_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(6, 17, 3)) * 300
    valid = np.array([1, 1, 0, 1, 1, 1])
    folder = tmp_path / "gt" / "TS1"
    folder.mkdir(parents=True)
    with h5py.File(folder / "annot_data.mat", "w") as file:
        file["univ_annot3"] = truth[:, None]
        file["valid_frame"] = valid[:, None]
    predicted = truth.copy()
    predicted[2] += 1000  # not a valid frame: must not count
    predicted[0, 1] += [151.0, 0, 0]
    np.savez(tmp_path / "pred.npz", TS1=predicted)
    np.savez(tmp_path / "plain.npz", TS1=truth, TS1_valid=valid)
    from_mat = command("3dhp", tmp_path / "gt", tmp_path / "pred.npz", out=tmp_path / "a.json")
    from_npz = command("3dhp", tmp_path / "plain.npz", tmp_path / "pred.npz", out=tmp_path / "b.json")
    assert from_mat == from_npz
    (folder / "annot_data.mat").write_bytes(b"MATLAB 5.0 MAT-file, truncated")
    rejected("3dhp", tmp_path / "gt", tmp_path / "pred.npz", match="TS1/annot_data.mat is truncated or no .mat file")


@pytest.mark.parametrize("frames", [3, 6, 17])
def test_3dhp_annotation_files_have_axes_in_either_order(tmp_path, frames):
    h5py = pytest.importorskip("h5py")
    truth = np.random.default_rng(4).normal(size=(frames, 17, 3)) * 300
    folder = tmp_path / "gt" / "TS1"
    folder.mkdir(parents=True)
    np.savez(tmp_path / "pred.npz", TS1=truth)

    def write(array, valid=None):
        with h5py.File(folder / "annot_data.mat", "w") as file:
            file["univ_annot3"], file["valid_frame"] = array, np.ones((1, frames)) if valid is None else valid

    for array in (truth[:, None], truth[:, None].transpose()):
        write(array)
        assert command("3dhp", tmp_path / "gt", tmp_path / "pred.npz", out=tmp_path / "a.json")["MPJPE"] == 0
    for array in (truth[:, None].transpose(0, 1, 3, 2), truth[:, None, :16], truth.reshape(frames, 51)):
        write(array)
        rejected(
            "3dhp", tmp_path / "gt", tmp_path / "pred.npz", match=r"univ_annot3 has shape .*expected \(frames, 17, 3"
        )
    write(truth[:, None], np.array([b"yes"] * frames, dtype=object))
    rejected("3dhp", tmp_path / "gt", tmp_path / "pred.npz", match="valid_frame is of object, not of numbers")
