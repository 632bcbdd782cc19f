"""GLM-4.1V as a family from outside the package."""

from typing import Any

from easyvideor1.families.family import VisualFeatures, VisualInputs
from easyvideor1.families.grid_vl import GridVL
from easyvideor1.types import MediaPlan


class Glm4V(GridVL):
    """The steps of a video are pictures, each followed by its second."""

    model_class = "Glm4vForConditionalGeneration"
    tower_shape = (*GridVL.tower_shape, "image_size", "rms_norm_eps")

    def _name_tokens(self) -> None:
        names = [f"{kind}_{part}token_id" for kind in ("image", "video") for part in ("start_", "", "end_")]
        self.visual_token_ids = tuple(self.config[name] for name in names)
        tokens = self.tokenizer.convert_ids_to_tokens(list(self.visual_token_ids))
        self.marks = {"image": tuple(tokens[:3]), "video": tuple(tokens[3:])}
        self.image_token_id, self.video_token_id = self.visual_token_ids[1], self.visual_token_ids[4]

    def video_text(self, plan: MediaPlan) -> str:
        start, _, end = self.marks["video"]
        seconds = plan.timestamps[:: self.geometry.temporal_patch_size]
        return start + "".join(f"{''.join(self.marks['image'])}{int(second)}" for second in seconds) + end

    def span_steps(self, plan: MediaPlan) -> tuple[int, ...]:
        return (1,) * plan.grid[0]

    def encode(self, model: Any, visual: VisualInputs) -> VisualFeatures:
        grids = visual.grid_thw.repeat_interleave(visual.grid_thw[:, 0], dim=0)
        grids[:, 0] = 1  # its tower takes one picture per row
        return super().encode(model, VisualInputs(visual.pixel_patches, grids))
