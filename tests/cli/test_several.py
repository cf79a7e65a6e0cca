"""A command's group of processes."""

import pytest
from torch import distributed

from posekit.cli.several import no_waiting_for_others


@pytest.mark.parametrize("before", [False, True])
def test_a_command_leaves_the_group_that_it_joined(before):
    def join():
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)

    if before:  # by a program that calls the command
        join()
    with no_waiting_for_others():
        if not before:
            join()
    assert distributed.is_initialized() == before
    if before:
        distributed.destroy_process_group()
