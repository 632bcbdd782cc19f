"""Groups of earlier rollouts as a step trains on them: the same samples, prompts and tokens, made again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from easyvideor1.families.family import Family
from easyvideor1.files import json_bytes
from easyvideor1.records.rollout_store import RolloutStore
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord, TurnArrays
from easyvideor1.rollout.pairs import ChosenPair
from easyvideor1.rollout.strategies import Strategy
from easyvideor1.types import DataError, EasyVideoError, FinishReason, Group, Prompt, Sample, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class StoredPairs:
    """The pairs of one group of a ``RolloutStore``, and ``responses_digest`` of them; empty if it was not kept."""

    stage: str
    step: int
    place: int
    pairs: tuple[ChosenPair, ...]
    digest: str = ""


def responses_digest(record: SampleRecord, pairs: Sequence[ChosenPair]) -> str:
    """SHA-256 of a sample's id and of the responses that its pairs name. An earlier stage that is repeated may have
    other responses in the same places."""
    responses = {}
    for place in _paired(pairs):
        one = record.trajectories[place] if place < len(record.trajectories) else None
        responses[str(place)] = None if one is None else [one.response, *one.responses, one.tokens, one.finish]
    return hashlib.sha256(json_bytes({"sample": record.sample, "responses": responses})).hexdigest()


def _paired(pairs: Sequence[ChosenPair]) -> list[int]:
    """Places of the responses that are in a pair, in order."""
    return sorted({place for pair in pairs for place in (pair.better, pair.worse)})


class StoredGroups:
    """Gives the groups of samples that were drawn from earlier rollouts.

    A prompt is made from its sample, as it was then, and has to have the same tokens and media; further turns are asked
    for from the strategy, whose whole state is the trajectory. Responses are the tokens that were drawn then, and have
    to be those that the pairs were chosen from.

    Args:
        store: of the run.
        places: where the group of each sample is, by ``id(sample)``; the caller keeps the samples.
        family: of the policy.
        strategy: makes the prompts.
    """

    def __init__(
        self, store: RolloutStore, places: Mapping[int, StoredPairs], family: Family, strategy: Strategy
    ) -> None:
        self._store = store
        self._places = places
        self._family = family
        self._strategy = strategy

    def groups(self, samples: Sequence[Sample], prompts: Sequence[Prompt | None]) -> list[Group]:
        """The scored groups of some samples with the responses that are in a pair; a sample without a prompt gets an
        empty group, and one whose group cannot be made again an empty group with its ``fault``."""
        found = []
        for sample, prompt in zip(samples, prompts, strict=True):
            if prompt is None:
                found.append(Group(sample, ()))
                continue
            try:
                found.append(self._group(sample, prompt, self._places[id(sample)]))
            except EasyVideoError as error:
                found.append(Group(sample, (), fault=f"{sample.where or sample.id}: {error}", stored_failed=True))
        return found

    def _group(self, sample: Sample, prompt: Prompt, stored: StoredPairs) -> Group:
        record = self._store.with_arrays(stored.stage, stored.step, stored.place)
        if record.sample != sample.id:
            raise DataError(f"step {stored.step} of {stored.stage} has {record.sample!r} in its place")
        if stored.digest and stored.digest != responses_digest(record, stored.pairs):
            raise DataError(
                f"step {stored.step} of {stored.stage} has other responses than those that its pairs were chosen from: "
                "the step was repeated since, or its file was changed"
            )
        if [plan.digest for plan in prompt.plans] != [media.digest for media in record.media]:
            raise DataError("its media, or the frames that are taken of them, are not those that its rollout saw")
        paired = _paired(stored.pairs)
        new = {old: place for place, old in enumerate(paired)}
        members = [record.trajectories[place] for place in paired]
        return Group(
            sample,
            tuple(self._replayed(sample, prompt, member) for member in members),
            tuple(member.score for member in members),
            pairs=tuple((new[pair.better], new[pair.worse]) for pair in stored.pairs),
        )

    def _replayed(self, sample: Sample, prompt: Prompt, record: TrajectoryRecord) -> Trajectory:
        """A trajectory with the turns that it had.

        Raises:
            DataError: its tokens were not kept, or a prompt is not the one that it answered.
        """
        if not record.turns:
            raise DataError("the tokens of its rollout are not there (the .npz file beside it)")
        turns: tuple[Turn, ...] = ()
        for number, kept in enumerate(record.turns, 1):
            asked = prompt if not turns else self._strategy.next(sample, Trajectory(turns, "offline"))
            if asked is None or not np.array_equal(asked.token_ids, kept.prompt_ids):
                raise DataError(f"the prompt of turn {number} is not the one that its rollout answered")
            last = number == len(record.turns)
            text = record.response if last else self._text(kept, record, number)
            turns = (*turns, self._turn(asked, kept, text, record.finish if last else None))
        return Trajectory(turns, "offline")

    def _text(self, kept: TurnArrays, record: TrajectoryRecord, number: int) -> str:
        """The response of a turn that is not the last one."""
        if record.responses:
            return record.responses[number - 1]
        tokenizer: Any = self._family.tokenizer
        text: str = tokenizer.decode(kept.response_ids[:-1] if self._ended(kept) else kept.response_ids)
        return text

    def _ended(self, kept: TurnArrays) -> bool:
        return len(kept.response_ids) > 0 and int(kept.response_ids[-1]) in self._family.stop_token_ids

    def _turn(self, prompt: Prompt, kept: TurnArrays, text: str, known: FinishReason | None) -> Turn:
        finish: FinishReason = known or ("stop" if self._ended(kept) else "length")
        # Without the log-probs of the policy that drew them: the present one has moved since, which is no mismatch.
        return Turn(prompt, kept.response_ids, kept.response_mask, None, finish, text)
