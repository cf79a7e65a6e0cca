"""Constants are not sent from process to process; running means are."""

import pytest
import torch
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel

from posekit.module import PoseModule


class Small(PoseModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        self.inner = torch.nn.Module()
        self.inner.register_buffer("constant", torch.ones(1000), persistent=False)
        self.register_buffer("own", torch.ones(7), persistent=False)

    def forward(self, x):
        return self.net(x) * self.inner.constant[:3] * self.own[0]


@pytest.fixture
def group(tmp_path):
    init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    destroy_process_group()


def sent(ddp):
    """Returns what is broadcast before a forward pass, by name."""
    names = {id(buffer): name for name, buffer in ddp.module.named_buffers()}
    return {names[id(buffer)] for buffer in ddp.modules_buffers}


def test_constants_stay_at_home(group):
    module = Small()
    keys = list(module.state_dict())
    ddp = DistributedDataParallel(module)
    assert sent(ddp) == {"net.1.running_mean", "net.1.running_var", "net.1.num_batches_tracked"}
    ddp(torch.rand(4, 3)).sum().backward()
    assert list(module.state_dict()) == keys
    assert not any("constant" in key or key == "own" for key in keys)


def test_a_body_stays_at_home(group):
    from posekit_maed import MAED

    module = MAED(
        image_size=[64, 64], num_blocks=1, num_heads=2, embed_dim=32, max_frames=2, backbone="small", hidden_dim=32
    )
    buffers = dict(module.named_buffers())
    assert any(name.startswith("body.") for name in buffers)
    ddp = DistributedDataParallel(module)
    assert not any(name.startswith("body.") for name in sent(ddp))
    size = sum(buffers[name].numel() for name in sent(ddp))
    assert size < 0.1 * sum(buffer.numel() for buffer in buffers.values())
