"""Frames: probe media without decoding, plan every pixel, decode in worker processes, store the frames."""

from easyvideor1.video.build import BuildProgress, BuildReport, build, check_cached
from easyvideor1.video.decode import decode
from easyvideor1.video.frame_source import FrameSource
from easyvideor1.video.health import BadFile, HealthEntry, HealthLedger, bad_files
from easyvideor1.video.maintenance import GcReport, StoreStats, collect_garbage, store_stats
from easyvideor1.video.part import distinct_places, part, whole_media, window
from easyvideor1.video.plan import plan, plan_from_json, plan_to_json
from easyvideor1.video.probe import probe
from easyvideor1.video.store import EntryFile, FrameStore, StoreError
from easyvideor1.video.worker_pool import DecodePool

__all__ = [
    "BadFile",
    "BuildProgress",
    "BuildReport",
    "DecodePool",
    "EntryFile",
    "FrameSource",
    "FrameStore",
    "GcReport",
    "HealthEntry",
    "HealthLedger",
    "StoreError",
    "StoreStats",
    "bad_files",
    "build",
    "check_cached",
    "collect_garbage",
    "decode",
    "distinct_places",
    "part",
    "plan",
    "plan_from_json",
    "plan_to_json",
    "probe",
    "store_stats",
    "whole_media",
    "window",
]
