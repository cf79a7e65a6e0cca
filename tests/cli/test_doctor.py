"""``posekit doctor``: quick by what metadata and driver tell, thorough by ``--full``."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from posekit.cli import info, main
from posekit.plugins import METHODS

POINTS = {
    "Broken": EntryPoint("Broken", "colorsys:Thing", METHODS),  # a module without the class
    "Gone": EntryPoint("Gone", "no_such_package.inner:Thing", METHODS),
}


@pytest.fixture
def points(monkeypatch):
    """Two bad methods in place of all plug-ins."""

    def plugins(group):
        return POINTS if group == METHODS else {}

    monkeypatch.setattr("posekit.cli.info.plugins", plugins)
    monkeypatch.setattr("posekit.plugins.plugins", plugins)


def faults(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *words])
    assert stop.value.code == 1
    return [line for line in capsys.readouterr().out.splitlines() if "FAULT" in line]


def test_the_quick_form_names_plug_ins_without_their_package(points, capsys):
    assert faults(capsys) == ["  FAULT plug-in Gone (no_such_package.inner:Thing): there is no package no_such_package"]
    assert faults(capsys, "--fast") == faults(capsys)


def test_the_full_form_imports_them(points, capsys):
    broken, gone = faults(capsys, "--full")
    assert "plug-in Broken (colorsys:Thing) failed to load: AttributeError" in broken
    assert "No module named 'no_such_package'" in gone


def test_the_quick_form_imports_no_framework():
    code = "import sys; from posekit.cli import main; main(['doctor']); print('imported', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stdout.rpartition("imported ")[2].split()
    assert not {"torch", "lightning", "numpy", "cv2", "posekit_hdm", "posekit.data"} & set(imported)
    assert "CPU cores" in done.stdout or "by the driver" in done.stdout


def test_optional_packages_are_listed_with_their_extra(monkeypatch, capsys):
    there = info._version
    absent = {"onnxruntime", "h5py", "matplotlib"}
    monkeypatch.setattr(info, "_version", lambda name: None if name in absent else there(name))
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines if "not installed" in line and line.split()[0] in absent] == [
        "matplotlib - not installed (extra plot)",
        "h5py - not installed (extra mat)",
        "onnxruntime - not installed (extra export)",
    ]


def test_devices_by_the_driver(monkeypatch, tmp_path):
    version = tmp_path / "version.py"
    version.write_text("from typing import Optional\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(info, "find_spec", lambda name: spec)
    monkeypatch.setattr(info, "_driver_devices", lambda: ["NVIDIA A", "NVIDIA B"])
    said = info._devices_by_the_driver()
    assert said.startswith("by the driver: NVIDIA A, NVIDIA B; torch is built for CUDA 12.8 ")
    version.write_text("cuda: Optional[str] = None\n")
    assert "torch is a build without CUDA" in info._devices_by_the_driver()
    monkeypatch.setattr(info, "find_spec", lambda name: None)
    assert info._built_for() is None


def test_nvidia_smi_is_asked_where_the_driver_has_no_files(monkeypatch):
    monkeypatch.setattr(info.Path, "glob", lambda self, pattern: [])
    monkeypatch.setattr(info.subprocess, "run", lambda *a, **k: SimpleNamespace(stdout="NVIDIA A\n\n"))
    assert info._driver_devices() == ["NVIDIA A"]

    def absent(*words, **options):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(info.subprocess, "run", absent)
    assert info._driver_devices() == []


def test_unknown_words_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--quick"])
    assert stop.value.code == 2
    assert "posekit doctor does not know '--quick'; it takes --full" in capsys.readouterr().err
