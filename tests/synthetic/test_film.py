import numpy as np
import pytest

from posekit.data.synthetic import film


@pytest.mark.parametrize("size", [(64, 48), (362, 362), (400, 700)])
def test_noise_is_as_coarse_in_pictures_of_every_size(size):
    canvas = np.zeros((*size, 3), np.float32)
    noise = film.add_noise(np.random.default_rng(0), canvas, 10.0)
    assert noise.std() == pytest.approx(11.2, abs=0.5)
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] == pytest.approx(0.48, abs=0.05)
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] == pytest.approx(0.8, abs=0.03)
