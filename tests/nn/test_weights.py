"""Reading weight files, fitting names, refusing what is broken or could run code."""

import copy
import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from posekit.errors import UserError
from posekit.nn import HRNet, ResNet, SmallNet, checksum, load_weights, read_state_dict


def small(num_joints=5, seed=0):
    torch.manual_seed(seed)
    return SmallNet(num_joints, widths=(4, 8, 8, 8, 8))


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


class Wrapper(nn.Module):
    """Holds a network under a name, as a LightningModule does."""

    def __init__(self, network):
        super().__init__()
        self.network = network


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
def test_round_trip(tmp_path, suffix):
    source, target = small(seed=0), small(seed=1)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(source.state_dict(), path)
    else:
        torch.save(source.state_dict(), path)
    report = load_weights(target, path)
    assert report.complete
    assert report.unexpected == ()
    assert len(report.matched) == len(source.state_dict())
    assert same(source, target)
    assert str(report).startswith(f"loaded 116 of 116 tensors from {path}")


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "net.", "module.model.", "network._orig_mod."])
def test_wrapped_and_prefixed(tmp_path, wrapper, prefix):
    source, target = small(seed=0), small(seed=1)
    state = {prefix + name: value for name, value in source.state_dict().items()}
    torch.save({"epoch": 3, wrapper: state, "optimizer": {"lr": 0.1}}, tmp_path / "a.pth")
    report = load_weights(target, tmp_path / "a.pth")
    assert report.complete
    assert same(source, target)
    assert report.renaming == (f"{prefix} taken off" if prefix else "")


def test_bare_file_into_a_module_that_holds_the_network():
    source, target = small(seed=0), Wrapper(small(seed=1))
    report = load_weights(target, {f"module.{name}": value for name, value in source.state_dict().items()})
    assert report.complete
    assert report.renaming == "module. taken off, network. put before"
    assert same(source, target.network)


def test_own_names_win_over_renamed_ones():
    source, target = Wrapper(small(seed=0)), Wrapper(small(seed=1))
    report = load_weights(target, source.state_dict())
    assert (report.complete, report.renaming) == (True, "")


def test_parts_under_several_prefixes():
    """mmpose's files hold the trunk under ``backbone.`` and the deconvolutions under ``keypoint_head.``."""
    source, target = ResNet(18, 5, deconv_channels=8), ResNet(18, 5, deconv_channels=8)
    state = {
        ("keypoint_head." if name.startswith(("deconv", "final")) else "backbone.") + name: value
        for name, value in source.state_dict().items()
    }
    report = load_weights(target, state)
    assert report.complete
    assert report.unexpected == ()
    assert same(source, target)


def test_imagenet_file_of_hrnet():
    """Classification files have other heads and all four outputs; the pose network takes what it shares."""
    torch.manual_seed(0)
    pose, full = HRNet(4, 5), HRNet(4, None, multi_scale_output=True)
    state = {**full.state_dict(), "incre_modules.0.0.conv1.weight": torch.zeros(2), "classifier.weight": torch.zeros(3)}
    report = load_weights(pose, state)
    assert report.missing == ("final_layer.weight", "final_layer.bias")
    assert "classifier.weight" in report.unexpected
    assert "stage4.2.fuse_layers.1.0.0.0.weight" in report.unexpected
    assert report.wrong_shape == ()


def test_wrong_shape_is_reported_and_left_alone():
    source, target = small(17, seed=0), small(5, seed=1)
    head = copy.deepcopy(target.final_layer)
    report = load_weights(target, source.state_dict())
    assert [s.name for s in report.wrong_shape] == ["final_layer.weight", "final_layer.bias"]
    assert report.wrong_shape[0][1:] == ((17, 8, 1, 1), (5, 8, 1, 1))
    assert not report.complete
    assert same(head, target.final_layer)
    assert torch.equal(source.stem[0][0].weight, target.stem[0][0].weight)
    assert "final_layer.weight (17x8x1x1 in the file, 5x8x1x1 here)" in str(report)
    assert "\n" not in str(report)


def test_partial_match():
    target = small()
    report = load_weights(target, {"final_layer.bias": torch.arange(5.0), "fc.weight": torch.zeros(3, 3)})
    assert report.matched == ("final_layer.bias",)
    assert report.unexpected == ("fc.weight",)
    assert "stem.0.0.weight" in report.missing
    assert target.final_layer.bias.tolist() == [0, 1, 2, 3, 4]


def test_old_files_without_counters_are_complete():
    state = {name: value for name, value in small().state_dict().items() if not name.endswith("num_batches_tracked")}
    assert load_weights(small(), state).complete


def test_skipped_parts_keep_their_weights():
    module, source = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    before = module[1].weight.clone()
    report = load_weights(module, source.state_dict(), skip=["1"])
    torch.testing.assert_close(module[0].weight, source[0].weight)
    torch.testing.assert_close(module[1].weight, before)
    assert (len(report.matched), len(report.missing)) == (2, 0)
    with pytest.raises(UserError, match=r"unknown part of the model 'head'; known: 0, 0.bias"):
        load_weights(module, source.state_dict(), skip=["head"])


def test_dtype_of_the_module_stays():
    target = small().double()
    load_weights(target, small(seed=1).half().state_dict())
    assert target.final_layer.weight.dtype == torch.float64


def test_convert_renames_before_names_are_compared():
    source, target = small(seed=0), Wrapper(small(seed=1))
    state = {f"module.old.{name}": value for name, value in source.state_dict().items()}
    seen = []

    def convert(names):
        seen.extend(names)
        return {name.removeprefix("old."): value for name, value in names.items()}

    assert load_weights(target, state, convert=convert).complete
    assert all(name.startswith("old.") for name in seen)
    assert same(source, target.network)


def test_nothing_matches():
    with pytest.raises(
        UserError, match=r"nothing in state dict fits the module: the file has fc\.weight; the module has"
    ):
        load_weights(small(), {"fc.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"shapes do not: final_layer\.bias"):
        load_weights(small(), {"final_layer.bias": torch.zeros(9)})
    with pytest.raises(UserError, match="nothing in"):
        load_weights(small(), {"stem.0.1.num_batches_tracked": torch.tensor(3)})


def refuse(path):
    with pytest.raises(UserError) as caught:
        load_weights(small(), path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_missing_file_and_folder(tmp_path):
    assert "no such weight file" in refuse(tmp_path / "none.pth")
    assert "is a folder" in refuse(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated(tmp_path, kind, share):
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    if kind == "safetensors":
        save_file(small().state_dict(), path)
    else:
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    message = refuse(path)
    # What still begins as an archive is known to be a checkpoint; of other beginnings nobody can say.
    known = kind == "zip" and share > 0
    assert message.endswith("is truncated, or damaged") if known else "truncated or no" in message


@pytest.mark.parametrize("content", [b"hello world, a text file" * 9, b"<!DOCTYPE html>" * 20, bytes(range(256)) * 8])
def test_not_a_checkpoint(tmp_path, content):
    path = tmp_path / "page.pth"
    path.write_bytes(content)
    assert "no PyTorch checkpoint" in refuse(path)


def test_no_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    assert "no named tensors" in refuse(tmp_path / "a.pth")
    torch.save(torch.zeros(3), tmp_path / "b.pth")
    assert "no named tensors" in refuse(tmp_path / "b.pth")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_malicious_pickle_is_refused_and_not_run(tmp_path):
    evil = tmp_path / "evil"
    torch.save({"state_dict": small().state_dict(), "extra": Malicious(evil)}, tmp_path / "a.pth")
    assert "pickled objects" in refuse(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"extra": Malicious(evil)}))
    refuse(tmp_path / "b.pth")
    assert not evil.exists()


def test_a_part_or_prefix_alone_is_a_list_of_one(tmp_path):
    torch.save({f"odd.{name}": value for name, value in small().state_dict().items()}, tmp_path / "a.pth")
    report = load_weights(small(seed=1), tmp_path / "a.pth", prefixes="odd.", skip="final_layer")
    assert report.complete
    assert not any(name.startswith("final_layer") for name in report.matched)


def test_numpy_score_beside_the_weights(tmp_path):
    """HRNet's training code keeps its best AP as a numpy number."""
    torch.save({"state_dict": small().state_dict(), "perf": np.float64(0.75), "epoch": np.int64(3)}, tmp_path / "a.pth")
    assert load_weights(small(seed=1), tmp_path / "a.pth").complete


def test_read_state_dict_drops_what_is_no_tensor(tmp_path):
    torch.save({"module": 1, "a.weight": torch.ones(2), "note": "x"}, tmp_path / "a.pth")
    assert list(read_state_dict(tmp_path / "a.pth")) == ["a.weight"]


def test_checksum(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc" * 1_000_000)
    assert checksum(tmp_path / "a.bin") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    with pytest.raises(UserError, match="no such weight file"):
        checksum(tmp_path / "b.bin")
