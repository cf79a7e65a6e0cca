import numpy as np
import pytest
import torch

from posekit.data import SyntheticPeople
from posekit.data.synthetic.domain import restyle, restyle_backgrounds, restyle_objects
from posekit.data.synthetic.look import sample_look
from posekit.data.synthetic.person import Person
from posekit.data.synthetic.shading import sample_light
from posekit.data.transforms import denormalize_image

pytestmark = pytest.mark.usefixtures("few_backgrounds")

DOMAINS = (None, "source", "target")


def dataset(domain, view, split="val", **options):
    module = SyntheticPeople(
        view=view, domain=domain, train_size=3, val_size=3, difficulty="hard", num_render_workers=1, **options
    )
    return module.dataset(split)


@pytest.mark.parametrize("view", ["crops", "scenes", "clips"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_domain_changes_the_pictures_and_nothing_else(view, split):
    plain, source, target = (dataset(domain, view, split) for domain in DOMAINS)
    for index in range(3):
        samples = [d[(0, index)] for d in (plain, source, target)]
        for other in samples[1:]:
            assert not torch.equal(samples[0]["image"], other["image"])
            assert all(torch.equal(samples[0][name], other[name]) for name in other if name != "image")


def test_the_source_is_quieter_than_the_target():
    def roughness(domain):
        pictures = [denormalize_image(dataset(domain, "crops")[i]["image"]).astype(float) for i in range(3)]
        return np.mean([np.abs(np.diff(p, axis=axis)).mean() for p in pictures for axis in (0, 1)])

    assert roughness("source") < 0.8 * roughness("target")


def test_looks_keep_their_cut_and_shape():
    rng = np.random.default_rng(0)
    moved = {"source": 0, "target": 0}
    for seed in range(20):
        look, light = sample_look(rng), sample_light(rng)
        person = Person(np.zeros((24, 3, 3), np.float32), np.zeros(10, np.float32), look, light)
        assert restyle(person, None, rng) is person
        for domain in moved:
            styled = restyle(person, domain, np.random.default_rng(seed)).look
            for name in (
                "skirt",
                "curtain",
                "hem",
                "sleeve",
                "leg_end",
                "shoe_top",
                "hair_volume",
                "bald",
                "cap",
                "has_top",
            ):
                assert getattr(styled, name) == getattr(look, name)
            assert styled.top.looseness == look.top.looseness
            assert styled.bottom.looseness == look.bottom.looseness
            moved[domain] += styled.top.tile != look.top.tile or not np.array_equal(styled.skin, look.skin)
    assert moved["source"] == 20
    assert moved["target"] > 3


def test_outlines_of_objects_stay_and_backgrounds_lose_contrast():
    rng = np.random.default_rng(0)
    alpha = rng.integers(0, 256, (2, 16, 16, 1))
    objects = np.concatenate([rng.integers(0, 256, (2, 16, 16, 3)) * alpha // 255, alpha], -1).astype(np.uint8)
    quiet = restyle_objects(objects, "source")
    np.testing.assert_array_equal(quiet[..., 3], objects[..., 3])
    assert (quiet[..., :3] <= quiet[..., 3:].astype(int) + 1).all()  # still premultiplied
    pictures = rng.integers(0, 256, (2, 48, 48, 3)).astype(np.uint8)
    assert restyle_backgrounds(pictures, "source").std() < 0.6 * pictures.std()
    assert restyle_backgrounds(pictures, "target") is pictures


def test_an_option_that_is_given_wins_over_the_domain():
    module = SyntheticPeople(domain="target", noise=0.1)
    assert module.options.noise == 0.1
    assert module.options.clutter == 1.0
    assert SyntheticPeople(domain="source").options.blur == 0.0
