import pickle

import pytest
import torch

from posekit.errors import UserError
from posekit.optim import SCHEDULES, build_optimizer, build_schedule


def rates(name, total=40, **options):
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], "sgd", lr=1.0)
    schedule = build_schedule(optimizer, name, total_steps=total, steps_per_epoch=10, **options)
    values = []
    for _ in range(total):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_step_decays_at_the_epochs():
    values = rates("step", milestones=[1, 3])
    assert values[9] == 1
    assert values[10] == pytest.approx(0.1)
    assert values[30] == pytest.approx(0.01)


def test_onecycle_peaks_at_the_share_and_ends_low():
    values = rates("onecycle", peak=0.25)
    assert max(values) == pytest.approx(1.0, abs=0.02)
    assert abs(values.index(max(values)) - 10) <= 1
    assert values[-1] < 1e-3


def test_warmup_is_linear():
    values = rates("constant", warmup_steps=10)
    assert values[5] == pytest.approx(0.001 + 0.999 * 0.5)
    assert values[10] == 1


def test_onecycle_has_an_increase_of_its_own_and_takes_no_warmup():
    assert rates("onecycle", warmup_steps=10) == rates("onecycle")


def test_cosine_ends_near_zero():
    assert rates("cosine")[-1] < 0.01


@pytest.mark.parametrize(("call", "text"), [
    (lambda p: build_optimizer(p, "adamm", 1.0), "adam"),
    (lambda p: build_optimizer(p, "adam", 0.0), "positive"),
    (lambda p: build_schedule(build_optimizer(p, "adam", 1.0), "cosin", total_steps=1, steps_per_epoch=1), "cosine"),
])  # fmt: skip
def test_mistakes_name_the_choices(call, text):
    with pytest.raises(UserError, match=text):
        call([torch.nn.Parameter(torch.zeros(1))])


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_can_be_pickled_and_keep_no_state(name):
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], "sgd", lr=1.0)
    schedule = build_schedule(
        optimizer, name, total_steps=9, steps_per_epoch=3, milestones=[1], warmup_steps=2, peak=0.3
    )
    factor = schedule.lr_lambdas[0]
    copy = pickle.loads(pickle.dumps(factor))
    assert [copy(step) for step in range(9)] == [factor(step) for step in range(9)]
    assert not any(schedule.state_dict()["lr_lambdas"])  # else a checkpoint would bring an earlier run's shape back
