import pytest
import torch
from torch._subclasses import FakeTensorMode

from posekit.nn import constants as module
from posekit.nn.constants import constants, kept


@pytest.fixture(autouse=True)
def empty():
    for cache in (module._numbers, module._table):
        cache.cache_clear()


def ramp(length, slope, device):
    return slope * torch.arange(length, device=device, dtype=torch.float64)


def used(x):
    """Uses all forms, one of them with sizes that may be symbols."""
    height, width = x.shape[-2:]
    limit = constants((width, height), x, x.dtype)
    return x[..., constants((2, 0), x)] * limit[0] + limit[1] + kept(ramp, x, 2, 0.5)


def test_constants_are_made_once_for_each_type_and_device():
    x = torch.zeros(1)
    assert constants((1, 2), x) is constants([1, 2], torch.ones(5))
    assert constants((1, 2), x).dtype == torch.int64
    assert constants((0.1,), x, torch.float64).item() == 0.1
    assert constants((1, 2), x.to("meta")).device.type == "meta"
    assert kept(ramp, x, 3, 0.1) is kept(ramp, x, 3, 0.1)
    assert kept(ramp, x, 3, 0.1).dtype == torch.float32
    assert kept(ramp, x.double(), 3, 0.1).tolist() == [0.0, 0.1, 0.2]


def test_constants_made_in_inference_serve_training():
    with torch.inference_mode():
        used(torch.rand(1, 3, 4, 4))
    for _ in range(2):  # two graphs of one constant
        x = torch.rand(1, 3, 4, 4, requires_grad=True)
        used(x * constants((3,), x, x.dtype)).sum().backward()
        assert torch.isfinite(x.grad).all()


def test_a_constant_changed_in_place_is_noticed():
    x = torch.zeros(1)
    constants((1, 2), x).add_(1)
    with pytest.raises(AssertionError, match="in place"):
        constants((1, 2), x)


def test_a_device_keeps_no_more_than_so_many():
    x = torch.zeros(1)
    for length in range(200):
        kept(ramp, x, length, 1.0)
    assert module._table.cache_info().currsize == 128


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_graph_has_constants_of_its_own(dynamic):
    torch.compiler.reset()
    compiled = torch.compile(used, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for side in (4, 6):
        x = torch.rand(2, 3, side, side, requires_grad=True)
        torch.testing.assert_close(compiled(x), used(x))
        compiled(x).sum().backward()


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_leaves_no_tensor_of_its_trace(strict):
    class Network(torch.nn.Module):
        def forward(self, x):
            return used(x)

    x = torch.rand(2, 3, 4, 4)
    program = torch.export.export(Network(), (x,), strict=strict)
    assert module._numbers.cache_info().currsize == module._table.cache_info().currsize == 0
    torch.testing.assert_close(program.module()(x), used(x))


def test_shapes_worked_out_without_data_leave_nothing():
    x = torch.rand(2, 3, 4, 4)
    with FakeTensorMode() as mode:
        assert used(mode.from_tensor(x)).shape == (2, 3, 4, 2)
    assert type(used(x)) is torch.Tensor


def test_a_first_trace_is_like_the_next():
    class Turned(torch.nn.Module):
        def forward(self, x):
            return x * constants((3, 5, 7, 11), x, torch.float32)

    traced = torch.jit.trace(Turned(), torch.ones(2, 4))
    assert traced(torch.ones(1, 4)).tolist() == [[3, 5, 7, 11]]
