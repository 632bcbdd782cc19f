"""Frames: probe without decoding, plan every pixel, decode under guard, keep what was decoded."""

from easyvideor1.video.build import BuildReport, build
from easyvideor1.video.decode import decode
from easyvideor1.video.guard import DecodePool
from easyvideor1.video.health import HealthEntry, HealthLedger
from easyvideor1.video.plan import plan, plan_from_json, plan_to_json
from easyvideor1.video.probe import probe
from easyvideor1.video.source import FrameSource
from easyvideor1.video.store import FrameStore, StoreError

__all__ = [
    "BuildReport",
    "DecodePool",
    "FrameSource",
    "FrameStore",
    "HealthEntry",
    "HealthLedger",
    "StoreError",
    "build",
    "decode",
    "plan",
    "plan_from_json",
    "plan_to_json",
    "probe",
]
