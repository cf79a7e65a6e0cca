import numpy as np
import pytest

from posekit.errors import UserError
from posekit.topdown import TopDownModule


@pytest.mark.parametrize("size", [(0, 0), (30, 0), (-5, 20)])
def test_predict_refuses_a_box_without_area(size):
    picture = np.zeros((60, 80, 3), np.uint8)
    with pytest.raises(UserError, match=r"width and a height above 0: box 1 is \[10\.0, 10\.0"):
        TopDownModule().predict(picture, [[5, 5, 20, 20], [10, 10, *size]])
