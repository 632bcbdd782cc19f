"""What recipes of real size need, as ``evr1 fit`` predicts it: ``python -m benchmarks.real_models [--only MODEL ...]``.

Writes ``figures.json`` beside the recipes and the tables of ``docs/real_models.md``. No weights, no videos and no GPU:
models are shapes (``benchmarks.real_shapes``), videos are plans. The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.real_shapes import SHAPES, write_real_shape
from easyvideor1.config import ClusterConfig, ModelConfig, RunConfig, dump_config, load_config
from easyvideor1.config.schema import VideoBudget
from easyvideor1.config.shipped import REAL
from easyvideor1.families.family import Family, load_family
from easyvideor1.files import write_text
from easyvideor1.policy.sizing.curves import ModelSizes
from easyvideor1.policy.sizing.devices import GPUS
from easyvideor1.policy.sizing.measure import measure_model
from easyvideor1.policy.sizing.prediction import Problem, typical_step
from easyvideor1.policy.sizing.report import host_parts
from easyvideor1.policy.sizing.workload import Asked
from easyvideor1.recipes.real_size import Expected, Row, expected_needs, figures_file
from easyvideor1.types import EasyVideoError, MediaInfo, MediaRef, Prompt
from easyvideor1.video import plan

PAGE = Path(__file__).parents[1] / "docs" / "real_models.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
GIB = 1 << 30

#: GPUs by memory in GB. Of one memory all have the same peak.
DEVICES = {"80": ("h100-80gb", "a100-80gb"), "141": ("h200-141gb",)}
#: Overlays that are tried, the first that fits is taken: what is trained, on how many GPUs.
TRIED: dict[tuple[str, int], tuple[str, ...]] = {
    ("all weights", 1): ("gpus_1", "gpus_1+offload", "gpus_1+frozen_tower+offload"),
    ("all weights", 8): ("", "offload", "tight"),
    ("all weights", 32): ("gpus_32", "gpus_32+offload", "gpus_32+tight"),
    ("adapters", 1): ("lora+gpus_1", "lora+gpus_1+offload"),
    ("adapters", 8): ("lora", "lora+offload", "lora+tight"),
    ("adapters", 32): ("lora+gpus_32", "lora+gpus_32+offload", "lora+gpus_32+tight"),
}
#: Assumed: videos of 1280 x 720 at 30 frames per second, of so many seconds, and tokens of a typical response.
SECONDS = tuple(range(6, 186, 6))
RESPONSE = 512
QUESTION = "What happens in the video? " * 30


def recipe_name(model: str, overlays: str) -> str:
    """The name of a recipe with overlays."""
    return "+".join(filter(None, (f"{REAL}/{model}", overlays)))


def prompts(family: Family, budget: VideoBudget) -> list[Prompt]:
    """A question about a video of each length, with the recipe's budget."""
    found = []
    for seconds in SECONDS:
        times = tuple(index / 30 for index in range(seconds * 30))
        name = f"{seconds} s"
        info = MediaInfo(name, "video", name, "h264", 1280, 720, 0, 30.0, float(seconds), times)
        planned = plan(info, budget, family.geometry)
        found.append(family.render(f"<video>{QUESTION}", [MediaRef("video", name)], [planned]))
    return found


@dataclass(frozen=True)
class Shaped:
    """A model's shape: its family, and what it takes as a configuration trains it."""

    family: Family
    checkpoint: Path

    @cached_property
    def _measured(self) -> dict[str, ModelSizes]:
        return {}

    @cached_property
    def _asked(self) -> dict[str, list[Prompt]]:
        return {}

    def sizes(self, config: ModelConfig) -> ModelSizes:
        """What the model takes; moments and parameters on the host change nothing of it."""
        kept = tuple(what for what in config.offload if what == "activations")
        alike = config.model_copy(update={"offload": kept})
        key = alike.model_dump_json()
        if key not in self._measured:
            self._measured[key] = measure_model(self.family, alike, self.checkpoint)
        return self._measured[key]

    def problem(self, config: RunConfig, memory: str, response: int) -> Problem:
        """The only stage of a recipe on a GPU of a memory, with responses of so many tokens."""
        stage, budget = config.stages[0], config.data.video
        key = budget.model_dump_json()
        if key not in self._asked:
            self._asked[key] = prompts(self.family, budget)
        asked = tuple(Asked(prompt, (response,) * stage.group_size) for prompt in self._asked[key])
        rollout = config.rollout.model_copy(update={"max_new_tokens": response})
        changed = config.model_copy(update={"rollout": rollout})
        device = GPUS[DEVICES[memory][0]]
        return Problem(changed, stage, asked, self.sizes(config.model), self.family.shares_prefix, device)


def share_of_a_gpu(config: RunConfig) -> RunConfig:
    """The configuration of one GPU with its share of the prompts of a step: all GPUs have as many."""
    stage = config.stages[0]
    few = stage.model_copy(update={"prompts_per_step": stage.prompts_per_step // config.cluster.ranks})
    alone = {"workers": 0, "placement": "process", "gpus_per_worker": 0.0}
    rollout = config.rollout.model_copy(update=alone)
    return config.model_copy(update={"stages": (few,), "cluster": ClusterConfig(), "rollout": rollout})


def needs(recipe: str, shaped: Shaped, memory: str) -> Expected | None:
    """What a recipe needs on GPUs of a memory; ``None`` if it does not fit."""
    config = load_config(recipe)
    sizes = shaped.sizes(config.model)
    worst = shaped.problem(config, memory, config.rollout.max_new_tokens)
    if not worst.fits:
        return None
    longest = max(len(one.prompt) for one in worst.asked)
    if longest > config.data.max_prompt_tokens:
        raise ValueError(f"{recipe}: its longest prompt has {longest} tokens")
    engine = worst.engine
    if engine.reserved:  # vLLM has its share whatever it needs: does it hold its weights and the longest prompt?
        least = sizes.all_values * engine.weight_bytes + (longest + engine.max_new_tokens) * sizes.key_values
        if least * engine.copies > engine.reserved:
            return None
    typical = shaped.problem(share_of_a_gpu(config), memory, RESPONSE)
    seconds = {
        GPUS[name].name: round(typical_step(replace(typical, device=GPUS[name]))[1].total) for name in DEVICES[memory]
    }
    return Expected(recipe, worst.peak.total, worst.peak.phase, sum(host_parts(worst).values()), seconds)


def rows_of(model: str) -> Iterator[Row]:
    """All figures of a model."""
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = write_real_shape(Path(directory), model)
        shaped = Shaped(load_family(checkpoint), checkpoint)
        for (method, gpus), tried in TRIED.items():
            expected: dict[str, Expected | None] = {}
            for memory in DEVICES:
                candidates = (needs(recipe_name(model, over), shaped, memory) for over in tried)
                expected[memory] = next(filter(None, candidates), None)
            yield Row(model, method, gpus, expected)


def inputs_digest() -> str:
    """Of everything that the figures follow from but the code: all recipes that are tried, and all shapes."""
    configs = [
        dump_config(load_config(recipe_name(model, over)))
        for model in SHAPES
        for some in TRIED.values()
        for over in some
    ]
    shapes = json.dumps({name: asdict(shape) for name, shape in SHAPES.items()}, sort_keys=True)
    assumed = f"{SECONDS} {RESPONSE} {QUESTION} {DEVICES}"
    return hashlib.sha256("\0".join([*configs, shapes, assumed]).encode()).hexdigest()


def tables(rows: Sequence[Row]) -> str:
    """The tables of the page, one per model."""
    parts = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        parts += [f"### `{REAL}/{model}`", "", _HEAD, *(line for row in own for line in _lines(row)), ""]
    return "\n".join(parts)


_HEAD = (
    "| trained | GPUs | memory of each | recipe | expected GiB | at its worst in | host, GiB | seconds of a step |\n"
    "|---|---|---|---|---|---|---|---|"
)


def _lines(row: Row) -> Iterator[str]:
    for memory, found in row.expected.items():
        start = f"| {row.method} | {row.gpus} | {memory} GB |"
        if found is None:
            yield f"{start} nothing that was tried fits | | | | |"
            continue
        shown = found.recipe.removeprefix(f"{REAL}/{row.model}") or "alone"
        seconds = ", ".join(f"{value:,.0f} ({name.partition('-')[0]})" for name, value in found.seconds.items())
        peak, host = (f"{value / GIB:.0f}" for value in (found.peak, found.host))
        yield f"{start} `{shown}` | {peak} | {found.phase} | {host} | {seconds} |"


def page_with(text: str, rows: Sequence[Row]) -> str:
    """The page with the tables of the figures between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables(rows)}\n{END}{after}"


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """What is written beside the recipes."""
    return {"inputs": inputs_digest(), "rows": [asdict(row) for row in rows]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, and write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(SHAPES), help="models whose figures are made anew")
    chosen = parser.parse_args(arguments).only or list(SHAPES)
    kept: dict[str, list[Row]] = {}
    for row in expected_needs() if figures_file().is_file() else ():
        kept.setdefault(row.model, []).append(row)
    failed = 0
    rows: list[Row] = []
    for model in chosen:
        print(f"{model} ...", file=sys.stderr, flush=True)
        try:
            kept[model] = list(rows_of(model))
        except EasyVideoError as error:
            failed += 1
            print(f"{model}: {error}", file=sys.stderr)
        rows = [row for model in SHAPES for row in kept.get(model, ())]
        write_text(figures_file(), json.dumps(as_json(rows), indent=1) + "\n")
        if PAGE.is_file():
            write_text(PAGE, page_with(PAGE.read_text(encoding="utf-8"), rows))
    fitting = sum(found is not None for row in rows for found in row.expected.values())
    print(json.dumps({"rows": len(rows), "fitting": fitting, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
