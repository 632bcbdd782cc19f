"""A decoding step as a CUDA graph: the GPU is told once what a step is, and then only that it is to be made again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

#: Steps after which a capture, which makes one and records another, has paid for itself.
LEAST_STEPS = 16


class StepGraph:
    """The kernels of one step, recorded; they read and write where they did then."""

    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph

    @staticmethod
    def pays(device: torch.device, steps: int) -> bool:
        """Whether so many steps are worth a capture. Ranks that meet in a step cannot record it."""
        alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
        return device.type == "cuda" and alone and steps >= LEAST_STEPS

    @classmethod
    def capture(cls, step: Callable[[], None], state: Sequence[torch.Tensor]) -> StepGraph | None:
        """Record ``step``, which changes ``state`` in place; it is as it was afterwards.

        Returns None, after a warning, where a layer cannot be recorded (one that looks at values on the host).
        """
        saved = [tensor.clone() for tensor in state]
        cached = torch.is_autocast_cache_enabled()
        # Casts of weights belong to the graph: those of autocast's cache are gone when autocast ends.
        torch.clear_autocast_cache()
        torch.set_autocast_cache_enabled(False)
        graph = torch.cuda.CUDAGraph()
        try:
            # Kernels are chosen, and workspaces allocated, in the first call.
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                step()
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph):
                step()
        except RuntimeError as error:
            torch.cuda.synchronize()
            warnings.warn(f"a decoding step cannot be recorded as a CUDA graph: {error}", stacklevel=2)
            return None
        finally:
            torch.clear_autocast_cache()
            torch.set_autocast_cache_enabled(cached)
            for tensor, value in zip(state, saved, strict=True):
                tensor.copy_(value)
        return cls(graph)

    def replay(self) -> None:
        """Make the step."""
        self._graph.replay()
