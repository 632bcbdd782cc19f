"""What a Hugging Face checkpoint holds beside its weights: configuration, tokenizer, normalisation, names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from easyvideor1.config.paths import path_advice
from easyvideor1.config.shipped import recipe_packages
from easyvideor1.families.inputs import Normalisation
from easyvideor1.files import file_digest
from easyvideor1.types import ConfigError

#: What the quickstart calls the checkpoint that it starts from, wherever it writes it.
QUICKSTART_NAME = "warm-start"
#: ``organisation/model``, as the Hugging Face hub names checkpoints.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def checkpoint_fault(path: str, places: Sequence[str] = (), *, key: str = "model.path") -> str:
    """Why ``path`` is no checkpoint, and what to do: where it was looked for, what is near, how to download it.

    Args:
        path: as it was asked for.
        places: where it was looked for; ``path`` alone if empty.
        key: what asked for it.
    """
    what = f"{key} {path!r}"
    here = next((place for place in map(Path, places or [path]) if place.exists()), None)
    if here is not None and not here.is_dir():
        return f"{what} is a file; give the directory of a Hugging Face checkpoint, the one that holds its config.json"
    if here is not None:
        inside = sorted(file.parent for file in (*here.glob("*/config.json"), *here.glob("*/*/config.json")))
        for above in ("", "checkpoints/", "*/checkpoints/", "stages/*/checkpoints/"):
            inside += sorted(here.glob(f"{above}step_[0-9]*"))
        hint = f"did you mean {inside[-1]}?" if inside else "give the directory of a Hugging Face checkpoint"
        return f"{what} has no config.json, so it is not a checkpoint; {hint}"
    looked = f"was not found: looked for {' and '.join(places or [path])}"
    if Path(path).name == QUICKSTART_NAME:
        recipe = Path(path).parent.name
        if recipe in recipe_packages():
            return f"{what} {looked}; `evr1 recipes {recipe} --prepare` writes the one that this recipe starts from"
        return f"{what} {looked}; `evr1 quickstart --prepare` writes the one that the quickstart starts from"
    if advice := path_advice(path, places or [path]):
        return f"{what} {looked}; {advice}"
    if _HUB_NAME.fullmatch(path) and not Path(path).parent.is_dir():
        name = path.partition("/")[2]
        return (
            f"{what} {looked}. It looks like a name on the Hugging Face hub, and nothing is fetched during a run. "
            f"Download it first: hf download {path} --local-dir models/{name}; then set model.path=models/{name}"
        )
    return f"{what} {looked}; give the directory of a Hugging Face checkpoint (hf download ORG/NAME --local-dir DIR)"


def read_config(checkpoint: Path) -> dict[str, Any]:
    """``config.json``.

    Raises:
        ConfigError: it is missing, or it is not JSON.
    """
    file = checkpoint / "config.json"
    if not file.is_file():
        raise ConfigError(checkpoint_fault(str(checkpoint)))
    return _read(file)


def weight_name(parameter: str) -> str:
    """The name of a weight in Hugging Face checkpoints, from that of a parameter of a model with or without adapters.

    peft puts the weights of an adapted layer into a layer ``base_layer`` of it, and numbers adapters by name.
    """
    return parameter.replace(".base_layer.", ".").replace(".default.", ".")


def stop_token_ids(checkpoint: Path, tokenizer: Any) -> tuple[int, ...]:
    """End-of-turn tokens: those of the generation config if there is one, else the tokenizer's."""
    file = checkpoint / "generation_config.json"
    stop = _read(file).get("eos_token_id") if file.is_file() else None
    stop = tokenizer.eos_token_id if stop is None else stop
    if stop is None:
        raise ConfigError(f"model.path: {str(checkpoint)!r} names no end-of-sequence token")
    return (stop,) if isinstance(stop, int) else tuple(stop)


def normalisation(checkpoint: Path, kind: str) -> Normalisation:
    """Channel mean and deviation from the processor files, which differ by kind in some checkpoints.

    Checkpoints from before there were video processors have no file for them; their image settings hold for both.
    """
    names = ("video_preprocessor_config.json", "preprocessor_config.json")[kind == "image" :]
    files = [checkpoint / name for name in names if (checkpoint / name).is_file()]
    settings: dict[str, Any] = {}
    joint = checkpoint / "processor_config.json"
    if joint.is_file():
        settings = _read(joint).get(f"{kind}_processor", {})
    if not settings and files:
        settings = _read(files[0])
    if "image_mean" not in settings or "image_std" not in settings:
        raise ConfigError(
            f"model.path: {str(checkpoint)!r} does not say how {kind} pixels are normalised: "
            f"{' or '.join(names)} or processor_config.json must hold image_mean and image_std"
        )
    return tuple(settings["image_mean"]), tuple(settings["image_std"])


def open_tokenizer(checkpoint: Path, *, trust_remote_code: bool) -> Any:
    """The tokenizer with the chat template of the checkpoint's processor; older ones keep it in ``chat_template.json``.

    Raises:
        ConfigError: there is no chat template.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    older = checkpoint / "chat_template.json"
    if older.is_file() and not (checkpoint / "chat_template.jinja").is_file():
        tokenizer.chat_template = _read(older).get("chat_template")
    if not tokenizer.chat_template:
        raise ConfigError(f"model.path: {str(checkpoint)!r} has no chat template (chat_template.jinja)")
    return tokenizer


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"model.path: {str(file)!r} is not JSON ({error}); fetch it again") from error
    return content


def _digest(file: Path) -> str:
    found = file.stat()
    return _digest_of_version(file.absolute(), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=1024)
def _digest_of_version(file: Path, size: int, modified: int, changed: int) -> str:
    return file_digest(file)


def checkpoint_digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint's directory that decides what its model says, by name.

    Whole files, weights too. Sizes and the ends of a file would cost nothing, but stay the same where only layers in
    the middle were trained. Hashing costs about as much as reading once, side by side: seconds per ten gigabytes, of
    files that are read right afterwards, before hours of generation. In one process a file that has not changed since
    is hashed once, however many evaluations ask.
    """
    others = (".", "optimizer", "critic")  # of the trainer: larger than the weights, and nothing is generated by them
    files = sorted(file for file in checkpoint.iterdir() if file.is_file() and not file.name.startswith(others))
    with ThreadPoolExecutor(4) as pool:  # hashing lets go of the interpreter
        return {file.name: digest for file, digest in zip(files, pool.map(_digest, files), strict=True)}
