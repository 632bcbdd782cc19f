"""Rows, prompts, transforms and the stream of training samples."""

from easyvideor1.data.bad_rows import BadRow
from easyvideor1.data.check_cache import CHECK_CACHE_NAME, CheckCache, check_key
from easyvideor1.data.curricula import CURRICULA, Curriculum, CurriculumTrack, Observation
from easyvideor1.data.difficulty import adapt_difficulty, drop_settled, fading_mask
from easyvideor1.data.inversion import invert_question
from easyvideor1.data.media_transforms import anchors, composite, mask_frames, noise, overlay_ids, require_span
from easyvideor1.data.mixture import source_weights
from easyvideor1.data.prompts import example_answer, prompt_text
from easyvideor1.data.row_files import source_files
from easyvideor1.data.source import (
    Loaded,
    SourceReport,
    distinct_stems,
    embedded_media,
    load_source,
    scan_source,
    shared_ids,
    shared_ids_note,
)
from easyvideor1.data.stream import SampleStream
from easyvideor1.data.transforms import TRANSFORMS, Transform, resolve_transforms, shuffle_options
from easyvideor1.data.writing import write_rows

__all__ = [
    "CHECK_CACHE_NAME",
    "CURRICULA",
    "TRANSFORMS",
    "BadRow",
    "CheckCache",
    "Curriculum",
    "CurriculumTrack",
    "Loaded",
    "Observation",
    "SampleStream",
    "SourceReport",
    "Transform",
    "adapt_difficulty",
    "anchors",
    "check_key",
    "composite",
    "distinct_stems",
    "drop_settled",
    "embedded_media",
    "example_answer",
    "fading_mask",
    "invert_question",
    "load_source",
    "mask_frames",
    "noise",
    "overlay_ids",
    "prompt_text",
    "require_span",
    "resolve_transforms",
    "scan_source",
    "shared_ids",
    "shared_ids_note",
    "shuffle_options",
    "source_files",
    "source_weights",
    "write_rows",
]
