"""Multiply-adds of layers that can be counted by hand."""

import pytest
import torch
from torch import nn

from posekit.nn import SmallNet, count_macs, count_operations, count_parameters


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 8, 6), 8 * 4 * 3 * 3 * 9),
        (nn.Conv2d(4, 8, 3, padding=1, groups=2), (1, 4, 5, 5), 8 * 25 * 2 * 9),
        (nn.ConvTranspose2d(4, 8, 4, stride=2, padding=1), (1, 4, 5, 5), 4 * 25 * 8 * 16),
        (nn.Conv1d(4, 8, 3), (1, 4, 10), 8 * 8 * 4 * 3),
        (nn.Linear(5, 7), (2, 3, 5), 2 * 3 * 5 * 7),
    ],
)
def test_layers(layer, shape, macs):
    assert count_macs(layer, shape) == macs


def test_conv_only_leaves_linear_out():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 5))
    assert count_macs(model, (1, 3, 2, 2)) == 48 + 80
    assert count_macs(model, (1, 3, 2, 2), conv_only=True) == 48


def test_a_layer_called_twice_counts_twice():
    layer = nn.Linear(4, 4)
    assert count_macs(nn.Sequential(layer, layer), (1, 4)) == 32
    assert count_parameters(nn.Sequential(layer, layer)) == 20


class ReadsValues(nn.Module):
    """Cannot run without values, and holds a tensor that is no buffer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.offset = torch.ones(4)

    def forward(self, x):
        y = self.linear(x) + self.offset
        return self.linear(y) if y.sum().item() == y.sum().item() else y


def test_models_that_need_values_run_on_zeros():
    assert count_macs(ReadsValues(), (2, 4)) == 64


def test_the_model_is_left_as_it_was():
    model = SmallNet(3).train()
    model.stem.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, (1, 3, 32, 32))
    assert model.training
    assert not model.stem.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_trainable_only():
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    assert (count_parameters(model), count_parameters(model, trainable_only=True)) == (8, 2)


def test_operations_count_attention_too():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(8, 24, bias=False)

        def forward(self, x):
            q, k, v = self.qkv(x)[:, None].chunk(3, -1)
            return nn.functional.scaled_dot_product_attention(q, k, v)

    model = Attention()
    layers = 5 * 8 * 24
    assert count_macs(model, (1, 5, 8)) == layers
    assert count_operations(model, (1, 5, 8)) == layers + 2 * 5 * 5 * 8
