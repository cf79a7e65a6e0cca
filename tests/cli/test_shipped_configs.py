"""Shipped configs are found wherever pip has put them."""

import pytest

from posekit import configs
from posekit.errors import UserError


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No config is where one is looked for; the folder that they may be put in."""
    monkeypatch.setattr(configs, "__file__", str(tmp_path / "home" / "lib" / "python" / "packages" / "posekit/c.py"))
    monkeypatch.setattr(configs.sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(configs.sysconfig, "get_path", lambda _: str(tmp_path / "data"))
    monkeypatch.setattr(configs.site, "getuserbase", lambda: str(tmp_path / "user"))
    return tmp_path


@pytest.mark.parametrize("place", ["prefix", "data", "user", "home", "home/lib/python/packages"])
def test_places(nowhere, place):
    assert configs.shipped_configs() == {}
    folder = nowhere / place / "share" / "posekit" / "examples"
    folder.mkdir(parents=True)
    (folder / "quickstart.yaml").write_text("model: {}\n")
    assert configs.find_config("quickstart") == str(folder / "quickstart.yaml")


def test_none_at_all(nowhere):
    with pytest.raises(UserError, match="config quickstart does not exist, and the shipped configs are not installed"):
        configs.find_config("quickstart")
