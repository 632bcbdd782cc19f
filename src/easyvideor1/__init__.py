"""EasyVideoR1: reinforcement learning with verifiable rewards for video-language models."""

__version__ = "0.2.0"
