"""Patches against transformers' own processor and against loops."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from easyvideor1.families.family import load_family
from easyvideor1.families.inputs import patchify
from easyvideor1.types import Geometry, MediaRef
from tiny import load_frames, make_plan

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
GEOMETRY = Geometry(patch_size=16, merge_size=2, temporal_patch_size=2)


def frames_of(plan):
    return load_frames(MediaRef(plan.kind, "x"), plan)


def looped(frames, geometry, mean, std):
    """The order of Qwen's patches, written down one number at a time in float64."""
    steps, rows, columns = frames.plan.grid
    size, merge, depth = geometry.patch_size, geometry.merge_size, geometry.temporal_patch_size
    pixels = (frames.pixels.astype(np.float64) / 255 - np.asarray(mean)) / np.asarray(std)
    out = []
    for step in range(steps):
        times = [min(step * depth + k, len(pixels) - 1) for k in range(depth)]
        for block_row in range(0, rows, merge):
            for block_column in range(0, columns, merge):
                for row in range(block_row, block_row + merge):
                    for column in range(block_column, block_column + merge):
                        tops, lefts = row * size, column * size
                        patch = [
                            pixels[time, tops : tops + size, lefts : lefts + size, channel]
                            for channel in range(3)
                            for time in times
                        ]
                        out.append(np.stack(patch).ravel())
    return np.stack(out)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (128, 32)])
def test_an_image_is_cut_as_transformers_cuts_it(height, width):
    plan = make_plan("image", height=height, width=width)
    frames = frames_of(plan)
    processor = Qwen2VLImageProcessorPil(
        patch_size=16, image_mean=MEAN, image_std=STD, size={"shortest_edge": 1, "longest_edge": 2**24}
    )
    expected = processor(images=[Image.fromarray(frames.pixels[0])], return_tensors="pt")
    assert expected["image_grid_thw"].tolist() == [list(plan.grid)]
    torch.testing.assert_close(patchify(frames, GEOMETRY, MEAN, STD), expected["pixel_values"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("geometry", [GEOMETRY, Geometry(8, 4, 2), Geometry(16, 1, 1)], ids=str)
def test_a_video_is_cut_as_the_loops_cut_it(count, geometry):
    plan = make_plan("video", frames=count, height=64, width=96)
    steps = -(-count // geometry.temporal_patch_size)
    grid = (steps, 64 // geometry.patch_size, 96 // geometry.patch_size)
    frames = frames_of(plan)
    frames = type(frames)(frames.pixels, type(plan)(**{f: getattr(plan, f) for f in plan.__slots__} | {"grid": grid}))
    out = patchify(frames, geometry, MEAN, STD)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), looped(frames, geometry, MEAN, STD), rtol=0, atol=3e-6)


def test_the_stores_read_only_map_is_neither_changed_nor_warned_about(recwarn):
    frames = frames_of(make_plan())
    before = frames.pixels.copy()
    frames.pixels.setflags(write=False)
    patchify(frames, GEOMETRY, MEAN, STD)
    assert np.array_equal(frames.pixels, before)
    assert not [w for w in recwarn if "writ" in str(w.message)]


def write_settings(checkpoint, name, mean, std):
    (checkpoint / name).write_text(json.dumps({"image_mean": mean, "image_std": std}), encoding="utf-8")


@pytest.mark.model
def test_images_and_videos_have_their_own_normalisation(tiny_checkpoint, tmp_path):
    own = shutil.copytree(tiny_checkpoint, tmp_path / "own")
    write_settings(own, "preprocessor_config.json", MEAN, STD)
    write_settings(own, "video_preprocessor_config.json", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    image, video = frames_of(make_plan("image")), frames_of(make_plan("video"))
    both = load_family(own).visual_inputs([image, video])
    assert both.grid_thw.tolist() == [[1, 4, 4], [2, 4, 4]] and both.grid_thw.dtype == torch.int64
    expected = [
        looped(image, GEOMETRY, MEAN, STD),
        looped(video, GEOMETRY, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    ]
    np.testing.assert_allclose(both.pixel_patches.numpy(), np.concatenate(expected), rtol=0, atol=3e-6)


@pytest.mark.model
def test_the_joint_processor_file_goes_before_the_single_ones(tiny_checkpoint, tmp_path):
    own = shutil.copytree(tiny_checkpoint, tmp_path / "own")
    joint = {f"{kind}_processor": {"image_mean": MEAN, "image_std": STD} for kind in ("image", "video")}
    (own / "processor_config.json").write_text(json.dumps(joint), encoding="utf-8")
    video = frames_of(make_plan("video"))
    visual = load_family(own).visual_inputs([video])
    np.testing.assert_allclose(visual.pixel_patches.numpy(), looped(video, GEOMETRY, MEAN, STD), rtol=0, atol=3e-6)


@pytest.mark.model
def test_no_media_is_no_visual_input(tiny_family):
    assert tiny_family.visual_inputs([]) is None
