"""Values of options that are refused."""

import numpy as np
import pytest

from posekit.errors import UserError, one_of


@pytest.mark.parametrize("value", ["c", None, 3, ["a"], {"a": 1}, np.array(["a", "b"])])
def test_a_value_that_is_none_of_the_known_is_refused_whatever_it_is(value):
    assert one_of("thing", "a", ("a", "b")) == "a"
    with pytest.raises(UserError, match=r"unknown thing .*; known: 2, a, b"):
        one_of("thing", value, ("a", "b", 2))


def test_nothing_will_do_where_it_is_said():
    assert one_of("thing", None, ("a", "b"), none=True) is None
    assert one_of("thing", "a", ("a", "b"), none=True) == "a"
    with pytest.raises(UserError, match=r"unknown thing 'c'; known: a, b"):
        one_of("thing", "c", ("a", "b"), none=True)
