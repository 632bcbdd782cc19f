"""From samples to groups: strategies, the driver of requests, and collectors. Importing it registers all strategies."""

from easyvideor1.rollout import recursive, span_then_frames, streaming

__all__ = ["recursive", "span_then_frames", "streaming"]
