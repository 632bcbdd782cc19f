"""What a stage takes from the rollouts of earlier stages: pairs to train on, and samples to leave out.

Both are decided when the stage begins, and kept in ``stages/NN-NAME/from_rollouts.json``, so that every later start
goes on with the same ones. Rollouts may change meanwhile, such as those of a stage that was rewound and repeated: a
group whose responses are not those that were chosen from is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby
from pathlib import Path

from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.data import SampleStream
from easyvideor1.families.family import Family
from easyvideor1.files import is_sealed, read_json, seal, write_json
from easyvideor1.records.reading import array_files
from easyvideor1.records.rollout_store import RolloutStore, StoredGroup
from easyvideor1.rollout.pairs import ChosenPair, choose_pairs, load_builders
from easyvideor1.rollout.samples import extra_samples, rounds_of
from easyvideor1.rollout.stored import StoredGroups, StoredPairs, responses_digest
from easyvideor1.rollout.strategies import Strategy
from easyvideor1.seeds import derive_seed
from easyvideor1.training.run_directory.layout import stage_directory
from easyvideor1.types import DataError, Sample

#: Keeps what a stage has taken, in its directory.
FILE = "from_rollouts.json"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a stage has taken: groups with their pairs, each with the id of its sample; and ids of dropped samples."""

    pairs: tuple[tuple[str, StoredPairs], ...] = ()
    dropped: tuple[str, ...] = ()

    def words(self, options: StageConfig) -> str:
        """What it comes to, for people."""
        if options.rollouts is not None and options.rollouts.drop_solved:
            return f"stage {options.name}: {len(self.dropped)} solved samples are not drawn again"
        draws = options.step_count * options.prompts_per_step
        return f"stage {options.name}: {self.pair_words()}; {draws / max(len(self.pairs), 1):.2f} epochs of them"

    def pair_words(self) -> str:
        """How many pairs there are, of each kind."""
        kinds = Counter(pair.builder for _, group in self.pairs for pair in group.pairs)
        of = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
        return f"{sum(kinds.values())} pairs of {len(self.pairs)} groups ({of})"


@dataclass(frozen=True, slots=True)
class Drawn:
    """The stream of a stage; where the groups of its samples are, by ``id(sample)``, if they are stored ones; and a
    line about what the stage has taken."""

    stream: SampleStream
    places: Mapping[int, StoredPairs] | None = None
    words: str = ""


class EarlierRollouts:
    """The rollouts of the stages before one, and what is made of them.

    Args:
        run_dir: of the run.
        config: of the run, with the lengths of its stages in steps.
        streams: of all stages, as the rows alone make them.
        say: shows a line.
    """

    def __init__(
        self, run_dir: Path, config: RunConfig, streams: Sequence[SampleStream], say: Callable[[str], None]
    ) -> None:
        self.run_dir = run_dir
        self.config = config
        self.say = say
        self.store = RolloutStore(run_dir)
        self._streams = streams
        self._drawn: dict[int, Drawn] = {}

    def drawn(self, number: int) -> Drawn:
        """What stage ``number``, counted from 0, draws. Its directory is made if it takes anything.

        Raises:
            DataError: there is no pair, or nothing is left to draw.
        """
        if number not in self._drawn:
            self._drawn[number] = self._draw(number)
        return self._drawn[number]

    def begin(self, number: int, family: Family, strategy: Strategy) -> tuple[SampleStream, StoredGroups | None]:
        """Say what stage ``number`` has taken, and return its stream, with what makes its groups if these are stored.

        Raises:
            DataError: see ``drawn``.
        """
        drawn = self.drawn(number)
        if drawn.words:
            self.say(drawn.words)
        stored = None if drawn.places is None else StoredGroups(self.store, drawn.places, family, strategy)
        return drawn.stream, stored

    def _draw(self, number: int) -> Drawn:
        options, stream = self.config.stages[number], self._streams[number]
        if options.rollouts is None:
            return Drawn(stream)
        file = stage_directory(self.run_dir, self.config, options) / FILE
        taken = read_taken(file)
        if taken is None:
            if file.exists():
                self.say(f"DAMAGED: stages/{file.parent.name}/{FILE}; what the stage takes is chosen again")
            taken = self._choose(options)
            self._left(options, stream, taken)  # a mistake is told before anything is kept
            write_json(file, seal(_as_json(taken)))
        if options.trajectories == "policy":
            return Drawn(self._left(options, stream, taken), words=taken.words(options))
        return self._stored(options, taken)

    def _left(self, options: StageConfig, stream: SampleStream, taken: Taken) -> SampleStream:
        """The stream of a stage without the samples that it drops."""
        if not taken.dropped:
            return stream
        try:
            return stream.without(frozenset(taken.dropped))
        except DataError as error:
            assert options.rollouts is not None
            raise DataError(
                f"stage {options.name}: rollouts.drop_solved ({options.rollouts.drop_solved:g}) leaves nothing to "
                f"draw: all {len(stream)} samples of the stage are solved and dropped; lower drop_solved, give the "
                "stage other rows, or leave it out"
            ) from error

    def _choose(self, options: StageConfig) -> Taken:
        assert options.rollouts is not None
        known = len(self.store.damage)
        if options.trajectories == "rollouts":
            taken = Taken(pairs=tuple(self._pairs(options)))
        else:
            taken = Taken(dropped=tuple(self._solved(options)))
        for damage in self.store.damage[known:]:
            self.say(f"DAMAGED: {damage}")
        if options.trajectories == "rollouts" and not taken.pairs:
            builders = ", ".join(pair.builder for pair in options.rollouts.pairs)
            raise DataError(
                f"stage {options.name}: the rollouts of {', '.join(self._read_stages(options))} have no pair of the "
                f"kind {builders}: add another pair builder, loosen its options, or train the earlier stages on harder "
                "rows"
            )
        return taken

    def _read_stages(self, options: StageConfig) -> list[str]:
        """Directories' names of the stages that a stage reads."""
        assert options.rollouts is not None
        earlier = self.config.stages[: self.config.stages.index(options)]
        named = options.rollouts.stages or [one.name for one in earlier if one.trajectories == "policy"]
        return [stage_directory(self.run_dir, self.config, one).name for one in earlier if one.name in named]

    def _groups(self, options: StageConfig) -> Iterator[StoredGroup]:
        assert options.rollouts is not None
        for stage in self._read_stages(options):
            last = options.rollouts.last_steps
            steps = self.store.steps(stage)
            yield from self.store.groups(stage, steps if last is None else steps[-last:])

    def _pairs(self, options: StageConfig) -> Iterator[tuple[str, StoredPairs]]:
        assert options.rollouts is not None
        builders = load_builders(options.rollouts.pairs)
        whole = {stage: array_files(self.run_dir / "stages" / stage) for stage in self._read_stages(options)}
        without = {}
        for group in self._groups(options):
            record = group.record
            if options.tasks and record.task not in options.tasks:
                continue
            if group.step not in whole[group.stage]:
                without[group.stage, group.step] = f"stages/{group.stage}/rollouts/step_{group.step:06d}.npz"
                continue
            seed = (self.config.seed, options.name, group.stage, group.step, group.place, record.sample)
            if pairs := choose_pairs(record, builders, seed):
                digest = responses_digest(record, pairs)
                yield record.sample, StoredPairs(group.stage, group.step, group.place, tuple(pairs), digest)
        if without:
            steps = f"{len(without)} step" + ("" if len(without) == 1 else "s")
            first = next(iter(without.values()))
            self.say(f"stage {options.name}: no pairs of {steps}: their tokens are not there, such as {first}")

    def _solved(self, options: StageConfig) -> list[str]:
        """Ids of the share of the solved samples that a stage drops, by ``drop_solved``."""
        assert options.rollouts is not None
        newest: dict[str, bool] = {}
        for group in self._groups(options):
            scores = [one.score for one in group.record.trajectories if one.origin == "online" and one.score.applicable]
            if scores:
                newest[group.record.sample] = all(score.accuracy >= 1 for score in scores)
        solved = [sample for sample, right in newest.items() if right]
        order = sorted(solved, key=lambda sample: derive_seed(self.config.seed, options.name, "drop", sample))
        return sorted(order[: round(options.rollouts.drop_solved * len(order))])

    def _stored(self, options: StageConfig, taken: Taken) -> Drawn:
        """The samples of the pairs as a stream; those that cannot be drawn again are left out, and told."""
        samples, places, lost = [], {}, 0
        numbers = {stage_directory(self.run_dir, self.config, one).name: n for n, one in enumerate(self.config.stages)}
        for (stage, step), groups in groupby(taken.pairs, key=lambda one: (one[1].stage, one[1].step)):
            draw = self._draws(numbers[stage], step)
            for name, stored in groups:
                found = _sample(self.config.stages[numbers[stage]], draw, stored, name)
                if found is None:
                    lost += 1
                    continue
                own = replace(found)  # an object of its own: samples that are drawn twice have two groups
                samples.append(own)
                places[id(own)] = stored
        if lost:
            self.say(f"stage {options.name}: {lost} groups are left out, for their samples cannot be drawn again")
        if not samples:
            raise DataError(
                f"stage {options.name}: none of the {lost} samples of its pairs can be drawn again; were rows or "
                "transforms changed since?"
            )
        seed = derive_seed(self.config.seed, options.name)
        stream = SampleStream([samples], [1.0], seed, shuffle=self.config.data.shuffle)
        return Drawn(stream, places, taken.words(options))

    def _draws(self, number: int, step: int) -> Callable[[int], list[Sample]]:
        """The samples of each round of a step of stage ``number``, as its transforms made them then."""
        options, rate = self.config.stages[number], self.config.rollout.over_sample_rate
        extra = extra_samples(options, rate) if options.trajectories == "policy" and rate > 0 else 0
        return cache(partial(rounds_of(options, self.drawn(number).stream, extra), step))


def _sample(options: StageConfig, draw: Callable[[int], list[Sample]], stored: StoredPairs, name: str) -> Sample | None:
    """The sample of a group, of the rounds of its step; ``None`` if none of them has it."""
    for round_ in range(options.selection.generation_rounds):
        samples = draw(round_)
        here = stored.place - round_ * options.prompts_per_step
        if 0 <= here < len(samples) and samples[here].id == name:
            return samples[here]
        if (same := next((sample for sample in samples if sample.id == name), None)) is not None:
            return same
    return None


def _as_json(taken: Taken) -> dict[str, object]:
    pairs = [
        {
            "sample": sample,
            "stage": group.stage,
            "step": group.step,
            "place": group.place,
            "digest": group.digest,
            "pairs": [[pair.better, pair.worse, pair.builder] for pair in group.pairs],
        }
        for sample, group in taken.pairs
    ]
    return {"pairs": pairs, "dropped": list(taken.dropped)}


def read_taken(file: Path) -> Taken | None:
    """What a stage has taken; ``None`` if the file is not there or damaged."""
    try:
        values = read_json(file)
    except DataError:
        return None
    if not is_sealed(values):
        return None
    pairs = tuple(
        (
            one["sample"],
            StoredPairs(
                *(one["stage"], one["step"], one["place"], tuple(ChosenPair(*pair) for pair in one["pairs"])),
                one.get("digest", ""),  # older runs have none
            ),
        )
        for one in values["pairs"]
    )
    return Taken(pairs, tuple(values["dropped"]))
