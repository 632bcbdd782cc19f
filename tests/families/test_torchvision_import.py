"""An installed torchvision that does not fit torch: models load all the same, or it is said what to do.

The packages made here fail at import as the real one does beside another build of torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

#: ``torchvision/_meta_registrations.py`` describes its operators to torch, which must have been declared.
OTHER_BUILD = (
    'import torch\ntorch.library.register_fake("torchvision::nms")(lambda *a: a[0])\n__version__ = "0.28.0+cu130"\n'
)
HOPELESS = 'raise ImportError("libcudart.so.13: cannot open shared object file")\n'
ASK = "from easyvideor1.families.torchvision_import import import_torchvision; print(import_torchvision())"


def asked(place: Path, source: str, code: str) -> subprocess.CompletedProcess[str]:
    (place / "torchvision").mkdir()
    (place / "torchvision/__init__.py").write_text(source)
    path = os.pathsep.join([str(place), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_for_another_build_is_imported(tmp_path: Path) -> None:
    plain = asked(tmp_path, OTHER_BUILD, "import torchvision")
    assert "operator torchvision::nms does not exist" in plain.stderr
    (tmp_path / "again").mkdir()
    done = asked(tmp_path / "again", OTHER_BUILD, f"{ASK}; import torchvision")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torchvision 0.28.0+cu130 is built for another torch than ")


def test_one_that_cannot_be_helped_is_told(tmp_path: Path) -> None:
    done = asked(tmp_path, HOPELESS, f"import easyvideor1.families.family as f; f.family_names()  # {ASK}")
    assert "ConfigError: torchvision is installed, but does not load beside torch" in done.stderr
    assert "ImportError: libcudart.so.13" in done.stderr and "pip uninstall torchvision" in done.stderr


def test_a_benchmark_says_at_once_that_models_cannot_be_loaded(tmp_path: Path) -> None:
    done = asked(tmp_path, HOPELESS, "import benchmarks.joint as b; b.main(['--quick'])")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: models cannot be loaded: torchvision is installed, but does not load")
