"""Values of options that are refused."""

import numpy as np
import pytest

from posekit.errors import UserError, one_of


@pytest.mark.parametrize("value", ["c", None, 3, ["a"], {"a": 1}, np.array(["a", "b"])])
def test_a_value_that_is_none_of_the_known_is_refused_whatever_it_is(value):
    assert one_of("thing", "a", ("a", "b")) == "a"
    with pytest.raises(UserError, match=r"unknown thing .*; known: 2, a, b"):
        one_of("thing", value, ("a", "b", 2))
