"""Frames: probe without decoding, plan every pixel, decode under guard, keep what was decoded."""

from easyvideor1.video.build import BuildReport, Tally, build, look_up
from easyvideor1.video.decode import decode
from easyvideor1.video.guard import DecodePool
from easyvideor1.video.health import HealthEntry, HealthLedger, Patient, patients
from easyvideor1.video.plan import plan, plan_from_json, plan_to_json
from easyvideor1.video.probe import probe
from easyvideor1.video.source import FrameSource
from easyvideor1.video.store import EntryFile, FrameStore, StoreError
from easyvideor1.video.upkeep import GcReport, StoreStats, collect, survey

__all__ = [
    "BuildReport",
    "DecodePool",
    "EntryFile",
    "FrameSource",
    "FrameStore",
    "GcReport",
    "HealthEntry",
    "HealthLedger",
    "Patient",
    "StoreError",
    "StoreStats",
    "Tally",
    "build",
    "collect",
    "decode",
    "look_up",
    "patients",
    "plan",
    "plan_from_json",
    "plan_to_json",
    "probe",
    "survey",
]
