"""Files of annotations, boxes, results and tables, damaged in many ways: one line, or every entry accounted for.

What is left of a damaged file and what is said to be refused of it must add up to the file's entries. Those are counted
here from the file's text, not by the reader.
"""

import json
import re
import warnings
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import yaml

from posekit.cli import main
from posekit.data import MPII, COCOKeypoints, CrowdPose, ImageSource, OCHuman, PoseTrack
from posekit.data.detections import read_detections
from posekit.data.posetrack_file import read_posetrack
from posekit.data.posetrack_tracks import read_boxes
from posekit.data.video_boxes import read_video_boxes
from posekit.errors import UserError
from posekit.metrics.coco_files import load_coco
from posekit.metrics.posetrack_files import read_sequence
from posekit.skeletons import COCO17, CROWDPOSE14
from posekit.tables import load_table
from posekit.tables.plan import Planner
from posekit.tables.render import as_json, markdown
from posekit.tables.results import gather
from tests.data.posetrack_made import make_2017, make_2018
from tests.metrics.coco_made import made
from tests.mutations import damaged, within
from tests.tables.test_tables import ABOUT, COUNT, GRID

TRIALS = 45
MORE = 600
SECONDS = 5  # of CPU, for a file of a few kB


class Case(NamedTuple):
    """A file to damage, its content, and what reads it and checks the counts."""

    path: Any
    content: Any
    use: Any
    dump: Any = json.dumps


class Log:
    """The counts in the warnings of one reading."""

    def __init__(self, caplog):
        self.caplog = caplog

    def refused(self):
        """How many people the warnings say are left out."""
        pattern = r"left out (\d[\d,]*) (?!faulty ignore region)"
        found = [re.search(pattern, record.getMessage()) for record in self.caplog.records]
        return sum(int(match[1].replace(",", "")) for match in found if match)


def entries(path, *keys):
    """Returns a list in a JSON file, as a parser without checks reads it."""
    content = json.loads(path.read_bytes())
    for key in keys:
        content = content[key]
    assert isinstance(content, list)
    return content


# -- annotations ------------------------------------------------------------------------------------------------------


def coco_like(module, joints):
    def make(tmp_path, mini_coco):
        content = json.loads((mini_coco / "annotations/person_keypoints_val2017.json").read_text())
        for number, annotation in enumerate(content["annotations"]):
            annotation["keypoints"] = annotation["keypoints"][: 3 * joints]
            annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
            content["images"][number // 2]["crowdIndex"] = 0.3
        content["categories"][0]["keypoints"] = [str(k) for k in range(joints)]
        path = tmp_path / "people.json"

        def use(log, fault):
            options = {"image_size": (48, 64), "on_bad_annotation": fault, "on_broken_image": "skip"}
            options |= {"test_annotations": "people.json", "test_images": str(mini_coco / "val2017")}
            data = module(str(tmp_path), val_annotations="people.json", val_images=options["test_images"], **options)
            people = data.people("test")
            assert len(people.ids) + people.skipped == len(entries(path, "annotations"))
            assert log.refused() == people.skipped
            assert len(people.image_ids) == len(entries(path, "images"))
            found = [a for a in entries(path, "annotations") if isinstance(a, dict)]
            own = {a["id"]: a for a in reversed(found) if type(a.get("id")) in (int, float)}  # the first counts
            kept = [own[number] for number in people.ids.tolist()]
            labelled = [not a.get("iscrowd") and any(v > 0 for v in (a.get("keypoints") or [])[2::3]) for a in kept]
            assert people.labelled.tolist() == labelled
            there = [name in {f"{k:012d}.jpg" for k in range(3)} for name in people.file_names]
            expected = sum(there[row] for row in people.image_rows[people.labelled].tolist())
            assert len(data.make_dataset("test")) <= expected  # pictures may be refused for their size
            if module is CrowdPose:
                groups = data.image_groups("test")
                assert sum(map(len, groups.values())) == len(people.image_ids)

        return Case(path, content, use)

    return make


def mpii(tmp_path, mini_mpii):
    path = tmp_path / "valid.json"

    def use(log, fault):
        data = MPII(
            str(tmp_path), (64, 64), "valid.json", "valid.json", str(mini_mpii / "images"), on_bad_annotation=fault,
            on_broken_image="skip",
        )  # fmt: skip
        people = data.people("val")
        assert len(people.ids) + log.refused() == len(entries(path))
        own = [entries(path)[row]["joints_vis"] for row in people.ids.tolist()]
        assert people.num_keypoints.tolist() == [sum(v > 0 for v in seen) for seen in own]
        assert len(data.make_dataset("val")) <= people.labelled.sum()

    return Case(path, json.loads((mini_mpii / "annot" / "valid.json").read_text()), use)


def posetrack(write, version):
    def make(tmp_path, _):
        folder = write(tmp_path)
        path = sorted(folder.glob("*.json"))[0]
        other = path.with_name("other.json")
        sorted(folder.glob("*.json"))[1].rename(other)
        form = ("annolist",) if version == "2017" else ("images",)

        def persons(file):
            if version != "2017":
                return len(entries(file, "annotations"))
            rects = [frame.get("annorect") or [] for frame in entries(file, "annolist")]
            return sum(1 if isinstance(rect, dict) else len(rect) for rect in rects)

        def use(log, fault):
            alone = read_posetrack([path], version, fault)
            assert len(alone.ids) + alone.skipped == persons(path)
            assert log.refused() == alone.skipped
            assert len(alone.image_ids) == len(entries(path, *form))
            assert len(set(alone.ids.tolist())) == len(alone.ids)
            options = {"version": version, "on_bad_annotation": fault, "on_broken_image": "skip"}
            data = PoseTrack(str(tmp_path), view="clips", image_size=(48, 64), **options)
            people = data.people("val")
            assert len(people.ids) + people.skipped == persons(path) + persons(other)
            labelled = int(people.labelled.sum())
            assert len(data.make_dataset("val")) <= labelled
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the data module has counted them
                frames = read_sequence(path, False, fault)  # as the evaluation sees the file
            assert len(frames) == len(alone.image_ids)
            assert sum(len(frame.people.xy) for frame in frames) == len(alone.ids)

        return Case(path, json.loads(path.read_text()), use)

    return make


# -- boxes ------------------------------------------------------------------------------------------------------------

BOX = {"category_id": 1, "bbox": [10.0, 12.0, 30.0, 40.0], "score": 0.5}
FRAMES = [{**BOX, "image_id": k % 3, "bbox": [10.0 + k, 12.0, 30.0, 40.0]} for k in range(7)]


def of_others(found):
    """Boxes of other objects, which detectors' files hold."""
    kinds = [entry.get("category_id", 1) for entry in found if isinstance(entry, dict)]
    return sum(type(kind) in (int, float) and abs(kind) < 1e15 and kind != 1 for kind in kinds)


def detections(tmp_path, _):
    path = tmp_path / "boxes.json"

    def use(log, fault):
        found = read_detections(path, {0: 0, 1: 1, 2: 2}, -np.inf, fault)
        every = entries(path)
        faulty = sum("faulty" in r.getMessage() for r in log.caplog.records)
        kept = len(found.boxes) + log.refused()
        # A faulty box of another object is either.
        assert kept == len(every) - of_others(every) or (faulty and kept > len(every) - of_others(every))
        assert np.isfinite(found.boxes).all()

    return Case(path, FRAMES, use)


def frame_boxes(tmp_path, _):
    people = read_posetrack(sorted(make_2018(tmp_path).glob("*.json")))
    path = tmp_path / "boxes.json"
    content = [{**BOX, "image_id": i} for i in people.image_ids[:3].tolist()]
    content += [{**BOX, "file_name": name} for name in people.names[3:6]]

    def use(log, fault):
        found = read_boxes(path, people, -np.inf, fault)
        every = entries(path)
        kept = len(found.boxes) + log.refused()  # boxes of frames that are not listed among the latter
        assert len(every) - of_others(every) <= kept <= len(every)

    return Case(path, content, use)


def write_pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(3):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((60, 80, 3), 40 * k, np.uint8))
    return folder


def picture_boxes(tmp_path, _):
    folder, path = write_pictures(tmp_path), tmp_path / "boxes.json"
    content = [{**BOX, "file_name": f"{k % 3}.png"} if k % 2 else entry for k, entry in enumerate(FRAMES)]

    def use(log, _):
        data = ImageSource(str(folder), boxes=str(path), image_size=(48, 64), score_threshold=-np.inf)
        found = len(data.make_dataset("predict"))
        every = entries(path)
        assert found == len(every) - of_others(every)

    return Case(path, content, use)


def coco_boxes(tmp_path, _):
    folder, path = write_pictures(tmp_path), tmp_path / "boxes.json"
    content = {
        "images": [{"id": 70 + k, "file_name": f"{k}.png"} for k in range(3)],
        "annotations": [{**BOX, "id": k, "image_id": 70 + k % 3, "iscrowd": 0} for k in range(5)],
        "categories": [{"id": 1, "name": "person"}],
    }

    def use(log, _):
        data = ImageSource(str(folder), boxes=str(path), image_size=(48, 64), score_threshold=-np.inf)
        found = len(data.make_dataset("predict"))
        every = entries(path, "annotations")
        crowds = sum(isinstance(e, dict) and e.get("iscrowd") == 1 for e in every)
        assert len(every) - of_others(every) - crowds <= found <= len(every)

    return Case(path, content, use)


def video_boxes(tmp_path, _):
    path = tmp_path / "boxes.json"
    content = [{"frame": k, "bbox": [10.0 + k, 12.0, 30.0, 40.0], "score": 0.5} for k in range(4)]
    content += [{"image_id": k, "track": 3, "bbox": [10.0 + k, 12.0, 30.0, 40.0]} for k in range(4)]

    def use(log, _):
        tracks = read_video_boxes(path, [{str(k): k for k in range(6)}], {"film": 0}, -np.inf)
        whole = json.loads(path.read_bytes())
        every = whole["annotations"] if isinstance(whole, dict) else whole
        assert sum(len(track.frames) for track in tracks) == len(every)

    return Case(path, content, use)


# -- results ----------------------------------------------------------------------------------------------------------


def evaluated(tmp_path, kind, gt, results):
    """Runs the command on two files and returns its numbers."""
    out = tmp_path / "numbers.json"
    try:
        main(["evaluate", kind, str(gt), str(results), "--json", str(out)])
    except SystemExit as stop:
        assert stop.code == 2  # noqa: PT017
        raise UserError("told on stderr") from None
    return json.loads(out.read_text())


def coco_results(side, joints):
    def make(tmp_path, _):
        gt, results = made(1, images=3, joints=joints, ties=False)
        gt["categories"][0]["keypoints"] = [str(k) for k in range(joints)]
        for image in gt["images"]:
            image["crowdIndex"] = 0.3
        files = {"gt": tmp_path / "gt.json", "results": tmp_path / "results.json"}
        for name, content in (("gt", gt), ("results", results)):
            files[name].write_text(json.dumps(content))

        def use(log, _):
            kind, sigmas = ("coco", COCO17.sigmas) if joints == 17 else ("crowdpose", CROWDPOSE14.sigmas)
            numbers = evaluated(tmp_path, kind, *files.values())
            assert all(v is not None and (v == -1 or 0 <= v <= 1 + 1e-12) for v in numbers.values())
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                loaded = load_coco(*files.values(), sigmas, box_area=0.53 if joints == 14 else None)
            texts = [re.search(r"(\d+) (annotations|results) (?!repeat)", str(w.message)) for w in caught]
            left = {name: sum(int(t[1]) for t in texts if t and t[2] == name) for name in ("annotations", "results")}
            truth, found = (sum(len(pair[k].image) for pair in loaded) for k in (0, 1))
            assert truth + left["annotations"] == len(entries(files["gt"], "annotations"))
            assert found + left["results"] == len(entries(files["results"]))

        return Case(files[side], gt if side == "gt" else results, use)

    return make


def posetrack_results(side, write):
    def make(tmp_path, _):
        truth = write(tmp_path / "gt")
        found = write(tmp_path / "found")
        path = sorted((truth if side == "gt" else found).glob("*.json"))[0]

        def use(log, _):
            numbers = evaluated(tmp_path, "posetrack", truth, found)
            assert all(v is None or 0 <= v <= 100 + 1e-9 for v in numbers.values())

        return Case(path, json.loads(path.read_text()), use)

    return make


def mpii_results(side):
    def make(tmp_path, _):
        rng = np.random.default_rng(0)
        poses = rng.integers(0, 200, (3, 16, 2)).tolist()
        people = [{"joints": p, "joints_vis": [1] * 16, "head_box": [0.0, 0.0, 30.0, 40.0]} for p in poses]
        found = [{"keypoints": poses[0]}, *poses[1:]]
        return pose_case(tmp_path, "mpii", side, people, found, "people")

    return make


def h36m_results(side):
    def make(tmp_path, _):
        poses = np.random.default_rng(0).normal(0, 1, (3, 17, 3)).round(3)
        return pose_case(tmp_path, "h36m", side, poses.tolist(), (poses + 0.1).tolist(), "poses")

    return make


def pose_case(tmp_path, kind, side, truth, found, counted):
    files = {"gt": tmp_path / "gt.json", "results": tmp_path / "results.json"}
    contents = {"gt": truth, "results": found}
    for name, content in contents.items():
        files[name].write_text(json.dumps(content))

    def use(log, _):
        numbers = evaluated(tmp_path, kind, *files.values())
        assert numbers[counted] == len(entries(files["gt"])) == len(entries(files["results"]))
        if kind == "h36m":
            assert None not in numbers.values()

    return Case(files[side], contents[side], use)


def dhp_results(side):
    def make(tmp_path, _):
        rng = np.random.default_rng(0)
        truth = {f"TS{k}": rng.normal(0, 300, (k + 1, 17, 3)).round(1).tolist() for k in (1, 2)}
        truth["TS1_valid"] = [1, 0]
        found = {name: poses for name, poses in truth.items() if name != "TS1_valid"}
        files = {"gt": tmp_path / "gt.json", "results": tmp_path / "results.json"}
        contents = {"gt": truth, "results": found}
        for name, content in contents.items():
            files[name].write_text(json.dumps(content))

        def use(log, _):
            numbers = evaluated(tmp_path, "3dhp", *files.values())
            content = json.loads(files["gt"].read_bytes())
            valid = [content.get(f"{name}_valid", [1] * len(content[name])) for name in content if "_valid" not in name]
            assert numbers["frames"] == sum(v > 0 for flags in valid for v in flags)
            assert None not in numbers.values()

        return Case(files[side], contents[side], use)

    return make


# -- tables -----------------------------------------------------------------------------------------------------------


def table(content):
    def make(tmp_path, _):
        path = tmp_path / "t.yaml"

        def use(log, _):
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(tmp_path)
                for real in (False, True):
                    spec = load_table(str(path), real)
                    whole = yaml.safe_load(path.read_bytes().decode("utf-8"))
                    assert [len(getattr(spec, n)) for n in ("jobs", "columns", "rows")] == [
                        len(whole[n]) for n in ("jobs", "columns", "rows")
                    ]
                    planner = Planner(spec, spec.seeds, {})
                    planner.plan()
                    results = gather(planner)
                    markdown(results, ABOUT)
                    as_json(results, ABOUT)

        return Case(path, content, use, yaml.safe_dump)

    return make


TUNED = {
    **GRID,
    "seeds": [0, 1],
    "note": "a note",
    "select": {"metric": "val/AP", "job": "fit"},
    "curve": {"job": "fit", "x": "train/loss", "y": "val/AP"},
    "plot": {"x": "0", "y": "1"},
    "rows": [{**GRID["rows"][0], "tune": {"model.lr": [0.1, 0.2]}, "seeds": [0]}, *GRID["rows"][1:]],
}

CASES = {
    "coco": (coco_like(COCOKeypoints, 17), "mini_coco"),
    "crowdpose": (coco_like(CrowdPose, 14), "mini_coco"),
    "ochuman": (coco_like(OCHuman, 17), "mini_coco"),
    "mpii": (mpii, "mini_mpii"),
    "posetrack 2017": (posetrack(make_2017, "2017"), None),
    "posetrack 2018": (posetrack(make_2018, "2018"), None),
    "posetrack 21": (posetrack(make_2018, "21"), None),
    "detections": (detections, None),
    "detections of frames": (frame_boxes, None),
    "boxes of pictures": (picture_boxes, None),
    "boxes in a COCO file": (coco_boxes, None),
    "boxes of a video": (video_boxes, None),
    "table": (table(GRID), None),
    "table of sizes": (table(COUNT), None),
    "tuned table": (table(TUNED), None),
} | {
    f"evaluate {name}, {side}": (make(side), None)
    for side in ("gt", "results")
    for name, make in {
        "coco": lambda side: coco_results(side, 17),
        "crowdpose": lambda side: coco_results(side, 14),
        "posetrack 2017": lambda side: posetrack_results(side, make_2017),
        "posetrack 2018": lambda side: posetrack_results(side, make_2018),
        "mpii": mpii_results,
        "h36m": h36m_results,
        "3dhp": dhp_results,
    }.items()
}


def check(case, name, count, caplog, capsys):
    """Reads the whole file, then damaged ones."""
    case.path.write_text(case.dump(case.content))
    case.use(Log(caplog), "error")
    refused = 0
    for trial, (what, content) in enumerate(damaged(case.content, count, name, case.dump)):
        caplog.clear()
        case.path.write_bytes(content)
        told = "told on stderr"
        try:
            with within(SECONDS):
                case.use(Log(caplog), "skip" if trial % 2 else "error")
        except UserError as error:
            refused += 1
            told = str(error)
        except Exception as error:
            raise AssertionError(f"{name}, trial {trial} ({what}): {type(error).__name__}: {error}") from error
        printed = capsys.readouterr().err
        assert "Traceback" not in printed, what
        lines = [told] if told != "told on stderr" else printed.splitlines()
        assert all("\n" not in line and 0 < len(line) < 5000 for line in lines), what
        assert len(lines) < 2 or case.path.name == "t.yaml", what
    assert 0 < refused < count  # damage that is always or never seen tests nothing


@pytest.mark.parametrize("name", CASES)
def test_damaged_files(name, tmp_path, request, caplog, capsys):
    make, folder = CASES[name]
    check(make(tmp_path, request.getfixturevalue(folder) if folder else None), name, TRIALS, caplog, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_files(name, tmp_path, request, caplog, capsys):
    make, folder = CASES[name]
    check(make(tmp_path, request.getfixturevalue(folder) if folder else None), f"more {name}", MORE, caplog, capsys)
