"""Make the checkpoint that the quickstart starts from: ``python scripts/make_warm_start.py WORK``.

Writes two toy worlds and a tiny random Qwen3-VL under WORK, trains the recipe ``warm_start`` (four supervised stages),
and puts the result, with weights in float16, into the package. Killed and started again, it goes on where it was. The
same code, library versions and number of threads give the same file; others give one like it.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from rich.console import Console
from safetensors.torch import load_file, save_file

from easyvideor1.cli.export import find_checkpoint
from easyvideor1.cli.progress import progress
from easyvideor1.cli.train import train_and_report
from easyvideor1.config import load_config
from easyvideor1.data import load_source, prompt_text
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.files import write_directory
from easyvideor1.recipes.toy import WARM_START, warm_start_worlds
from easyvideor1.toyworld import write_world
from easyvideor1.training.run_directory.layout import run_directory

#: What the shipped directory holds; optimiser state and the like stay in WORK.
FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="directory for the world, the frames and the run")
    parser.add_argument("overrides", nargs="*", help="changes of the recipe, key=value")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.work)
    for name, spec in warm_start_worlds().items():
        with progress(f"writing the world to {name}", unit="clip") as on_progress:
            write_world(spec, Path(name), on_progress)
    config = load_config("warm_start", arguments.overrides)
    if not Path("tiny/config.json").exists():
        samples = load_source(config.data.train[0], config.data).samples
        texts = [f"{prompt_text(sample, config.prompts)}\n{sample.offline[0].text}" for sample in samples]
        times = [f"<{tenth / 10:.1f} seconds>" for tenth in range(30)] * 50
        write_directory("tiny", lambda directory: write_tiny_checkpoint(directory, [*texts, *times]))
    train_and_report(config, Console(stderr=True))
    ship(find_checkpoint(run_directory(config)))


def ship(checkpoint: Path) -> None:
    """Put a checkpoint into the package, its weights halved to float16."""

    def fill(directory: Path) -> None:
        for name in FILES:
            shutil.copyfile(checkpoint / name, directory / name)
        weights = load_file(checkpoint / "model.safetensors")
        half = {name: tensor.half() for name, tensor in weights.items()}
        save_file(half, directory / "model.safetensors", metadata={"format": "pt"})

    write_directory(WARM_START, fill)
    size = sum(file.stat().st_size for file in WARM_START.iterdir())
    print(f"wrote {WARM_START} ({size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
