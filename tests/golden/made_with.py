"""What golden files were made with, and the environment in which they are made and compared.

Integers and texts are the same everywhere; sums of floats are not: processors add in another order, and so do versions
of a library. `KERNELS` asks for kernels that all usual x86-64 processors have, so that most machines agree to the
last bit. `made_with` says whether they should: it names the versions and what the processor was asked for, and holds
the digest of a few sums, products and exponentials as this machine computes them.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version

#: Libraries that a golden number may depend on.
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pillow", "av", "math-verify", "rouge-score", "jiwer")

#: Kernels that are asked for; what is set already stays, so that another machine can be tried out.
KERNELS = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
#: What is set in any case.
FIXED = {"MKL_DYNAMIC": "FALSE", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def environment() -> dict[str, str]:
    """The environment of a process that makes golden files."""
    return {**KERNELS, **os.environ, **FIXED}


def made_with() -> dict[str, str]:
    """Versions and arithmetic of this process."""
    import torch

    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: version(name) for name in LIBRARIES},
        "machine": platform.machine(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "arithmetic": _arithmetic(),
    }


def differences(theirs: Mapping[str, str], mine: Mapping[str, str]) -> list[str]:
    """What two origins differ in, in words; floats are compared exactly where there is nothing."""
    names = sorted({*theirs, *mine})
    return [f"{n} {theirs.get(n)} there, {mine.get(n)} here" for n in names if theirs.get(n) != mine.get(n)]


def _arithmetic() -> str:
    """Digest of operations that a model is made of, forward and backward, on numbers that are the same everywhere."""
    import torch

    digest = hashlib.sha256()
    for dtype in (torch.float32, torch.float64):
        x = torch.linspace(-2, 3, 96 * 160, dtype=torch.float64).sin().to(dtype).reshape(96, 160).requires_grad_()
        w = torch.linspace(-1, 1, 160 * 72, dtype=torch.float64).cos().to(dtype).reshape(160, 72).requires_grad_()
        y = torch.nn.functional.layer_norm(torch.nn.functional.gelu(x @ w, approximate="tanh"), (72,))
        heads = y.reshape(1, 96, 3, 24).transpose(1, 2)
        seen = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        patches = y.reshape(1, 3, 4, 24, 24)
        kernel = w.flatten()[: 8 * 3 * 2 * 8 * 8].reshape(8, 3, 2, 8, 8)
        cut = torch.nn.functional.conv3d(patches, kernel, stride=(2, 8, 8))
        loss = seen.log_softmax(-1).mean() + cut.exp().sum().log() + y.var(-1).rsqrt().std()
        loss.backward()
        for value in (y, seen, cut, loss, x.grad, w.grad):
            digest.update(value.detach().contiguous().numpy().tobytes())
    noise = torch.randn(4096, generator=torch.Generator().manual_seed(1))
    digest.update(noise.numpy().tobytes())
    return digest.hexdigest()[:16]
