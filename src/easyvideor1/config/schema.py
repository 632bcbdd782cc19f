"""Every knob of a run, as pydantic models. Field docstrings are the documentation of record."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from easyvideor1.config.algorithms import GDPOOptions
from easyvideor1.config.base import CHANGEABLE, BaseConfig, ByName, NonNegativeInt, Origin, PositiveInt, Probability
from easyvideor1.config.canary import CanaryConfig
from easyvideor1.config.cluster import ClusterConfig
from easyvideor1.config.data import DataConfig, ModalityShares, SourceConfig
from easyvideor1.config.engines import VLLMConfig
from easyvideor1.config.media import CacheConfig, ImageBudget, ImageOverride, VideoBudget, VideoOverride
from easyvideor1.config.model import LoraConfig, ModelConfig
from easyvideor1.config.repeat import Loops
from easyvideor1.config.rewards import RULE_PARTS, JudgeConfig, RewardConfig
from easyvideor1.config.serving import vllm_conflicts
from easyvideor1.config.stage_sections import OptimizerConfig
from easyvideor1.config.stages import StageConfig
from easyvideor1.config.staleness import rollout_conflicts, staleness_conflicts, with_correction
from easyvideor1.config.strategies import STRATEGY_OPTIONS, StrategyOptions, strategy_conflicts

__all__ = [
    "BaseConfig",
    "CacheConfig",
    "CanaryConfig",
    "ClusterConfig",
    "DataConfig",
    "EndpointConfig",
    "EvaluationConfig",
    "ImageBudget",
    "ImageOverride",
    "JudgeConfig",
    "LoraConfig",
    "ModalityShares",
    "ModelConfig",
    "OptimizerConfig",
    "PromptConfig",
    "RewardConfig",
    "RolloutConfig",
    "RunConfig",
    "SourceConfig",
    "StageConfig",
    "VLLMConfig",
    "VideoBudget",
    "VideoOverride",
]


#: Taken off logits; beyond 2, the bound of endpoints, a token that was said once is all but forbidden.
Penalty = Annotated[float, Field(ge=-2, le=2)]


class PromptConfig(BaseConfig):
    """How a sample is put into words."""

    templates: str | None = None
    """Directory with your own ``<task>.j2`` files, from the working directory or beside the YAML file; those it lacks
    are taken from the package."""
    system: str = ""
    """System message; none if empty."""
    thinking: bool = True
    """Ask for ``<think>`` reasoning before the ``<answer>``."""


class EndpointConfig(BaseConfig):
    """The model that ``engine: endpoint`` asks: an OpenAI-compatible server, for evaluations only. It is sent the
    frames that ``data.video`` plans for the family of ``model.path``, as JPEG pictures."""

    url: str = ""
    """Base address, such as ``https://host/v1``."""
    model: str = ""
    """Name of the model at the endpoint."""
    api_key_env: Annotated[str, CHANGEABLE] = ""
    """Environment variable that holds the key; empty for an endpoint without one. The key itself is never written."""
    timeout: Annotated[float, Field(gt=0), CHANGEABLE] = 300.0
    """Seconds that one request may take as a whole."""
    retries: Annotated[int, Field(ge=0), CHANGEABLE] = 4
    """Further attempts after HTTP 408, 409, 429 and 5xx, a timeout, a broken connection or a reply without text."""
    max_wait: Annotated[float, Field(ge=0), CHANGEABLE] = 30.0
    """Longest pause in seconds before a further attempt; pauses double from half a second, or are as long as the
    endpoint asks."""
    concurrency: Annotated[PositiveInt, CHANGEABLE] = 8
    """Requests under way at the same time."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request, such as ``reasoning_effort: low``."""


class RolloutConfig(BaseConfig):
    """How responses are generated. There are no penalties here: they draw from a distribution that differs from the
    policy's at every token, and the trainer would learn from samples of another policy. Evaluations have them."""

    engine: Annotated[str, CHANGEABLE] = "local"
    """Registered engine or ``module:attr``. It may change in a run that has begun; engines differ in rounding.
    ``endpoint`` asks a server that keeps its own weights (``rollout.endpoint``); only evaluations can use it."""
    endpoint: EndpointConfig = EndpointConfig()
    """The server of ``engine: endpoint``."""
    vllm: Annotated[VLLMConfig, CHANGEABLE] = VLLMConfig()
    """Settings of ``engine: vllm``."""
    strategy: Annotated[StrategyOptions, ByName(default="single_turn", classes=STRATEGY_OPTIONS)] = StrategyOptions(
        name="single_turn"
    )
    """How a sample becomes a trajectory: ``single_turn``; ``second_look`` asks the model to check its answer and takes
    the answer of its second turn; ``streaming``, ``span_then_frames`` and ``recursive`` show a video piece by piece;
    or ``module:attr``. Training, evaluation and data curation use the same."""
    temperature: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    """Sampling temperature in training; the trainer's log-probs use the same."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; 1 is off."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Sample among the k likeliest tokens; 0 is off."""
    max_new_tokens: PositiveInt = 512
    """Length limit of one response, in tokens."""
    max_staleness: NonNegativeInt = 0
    """Steps that responses may be older than the weights they train (docs/async.md). 0 is synchronous. With 1, the
    responses of the next step are generated while a step is optimised, by an engine in another process: set
    ``workers``. Above 0, a stage whose ``correction`` is not set is corrected with ``tis``."""
    at_update: Literal["finish", "continue", "redraw"] = "finish"
    """With ``max_staleness``, what becomes of responses that are under way at a weight update. ``continue``: they go on
    with the new weights (partial rollouts). ``redraw``: they are drawn again. ``finish``: the update waits for those of
    the next step, which training would wait for in any case; others go on."""
    over_sample_rate: Probability = 0.0
    """Draw this share of ``prompts_per_step`` more samples in each step, train on the first groups to be complete, and
    cancel the rest, so that a step does not wait for its longest responses. What is cancelled is not trained on."""
    batch_tokens: Annotated[PositiveInt, CHANGEABLE] = 65_536
    """Tokens, prompts and responses together, that the engine keeps in its cache at a time. A prompt that needs more
    goes alone in the local engine; the vllm engine refuses it."""
    tensor_parallel_size: Annotated[PositiveInt, CHANGEABLE] = 1
    """Devices that share each layer of the engine (tensor parallelism); only ``vllm`` has it. Not tried yet, for lack
    of a machine with several GPUs."""
    workers: Annotated[int, Field(ge=0), CHANGEABLE] = 0
    """Processes with an engine each: 0 generates in the process of the trainer, 1 in a process of its own, more share
    the requests. One that dies is replaced. Responses are the same, but for rounding where adapters are trained
    (``model.lora``) or requests are batched otherwise."""
    placement: Annotated[Literal["process", "ray"], CHANGEABLE] = "process"
    """Where ``workers`` run: ``process`` is on this machine; with ``ray`` they are actors of the Ray cluster that
    ``RAY_ADDRESS`` names, or of one that is started on this machine (extra ``ray``)."""
    gpus_per_worker: Annotated[float, Field(ge=0, le=1), CHANGEABLE] = 0.0
    """What Ray reserves of a GPU for each worker: a fraction, or one. Where Ray places ranks, too
    (``cluster.placement``), workers with a fraction share the GPUs of the ranks (less than half of each), and those
    with one have GPUs apart. Ray does not know the GPUs of ranks that it has not placed: start its cluster with
    ``CUDA_VISIBLE_DEVICES`` set to others. An engine on several GPUs is not possible yet."""
    weight_sync: Annotated[Literal["auto", "shared_memory", "collective"], CHANGEABLE] = "auto"
    """How ``workers`` get new weights: through shared memory, or broadcast in a group of ``torch.distributed``.
    ``auto`` broadcasts to workers that Ray places on other machines or devices."""
    deadline: Annotated[float, Field(ge=0), CHANGEABLE] = 0.0
    """Seconds after which a request that has not finished is cancelled and its sample left out of the step; 0 is never.
    An engine that is silent so long is killed and replaced. Waiting for other requests counts, so allow for a whole
    step. It goes with ``workers``."""

    @model_validator(mode="after")
    def _endpoint_is_complete(self) -> RolloutConfig:
        if self.engine != "endpoint":
            return self
        if not self.endpoint.url or not self.endpoint.model:
            raise ValueError("engine is endpoint, which needs rollout.endpoint.url and rollout.endpoint.model")
        if self.workers:
            raise ValueError("workers would have no effect: an endpoint is asked by this process; leave them out")
        JudgeConfig(url=self.endpoint.url, model=self.endpoint.model)  # checks the address
        return self

    @model_validator(mode="after")
    def _options_of_workers(self) -> RolloutConfig:
        if self.deadline and not self.workers:
            raise ValueError(
                "deadline would have no effect: an engine in the process of the trainer cannot be interrupted; "
                "set rollout.workers=1, or leave out deadline"
            )
        if not self.workers and (self.placement != "process" or self.weight_sync != "auto"):
            raise ValueError(
                "placement and weight_sync would have no effect: the engine is in the process of the trainer; "
                "set rollout.workers=1 or more, or leave them out"
            )
        if self.gpus_per_worker and self.placement != "ray":
            raise ValueError(
                "gpus_per_worker would have no effect: Ray reserves GPUs, and workers in processes use the device of "
                "model.device; set rollout.placement=ray, or leave it out"
            )
        return self


class EvaluationConfig(BaseConfig):
    """Evaluation during and after training."""

    every: Annotated[int, Field(ge=0)] = 0
    """Steps between evaluations on ``data.validation`` and ``benchmarks``; 0 is never."""
    benchmarks: tuple[str, ...] = ()
    """Benchmarks that training is measured on every so many steps, before the first stage and after each stage:
    ``NAME=DIRECTORY``, a file of rows, or ``module:attr=LOCATION``, as ``evr1 eval run --data`` takes them. Their
    numbers are the metrics ``benchmark/NAME/METRIC`` (docs/evaluation.md)."""
    samples: Annotated[int, Field(ge=0)] = 1
    """Sampled responses per question, reported beside the greedy one; 0 is greedy only."""
    temperature: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    """Temperature of the sampled responses."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling of the sampled responses; 1 is off, null takes ``rollout.top_p``."""
    top_k: NonNegativeInt | None = None
    """Sample among the k likeliest tokens; 0 is off, null takes ``rollout.top_k``."""
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Sampled responses: positive logits of tokens that the prompt or the response holds are divided by this, negative
    ones multiplied; 1 is off. Greedy responses are without penalties, so that they compare from run to run."""
    presence_penalty: Penalty = 0.0
    """Sampled responses: taken off the logits of tokens that the response holds."""
    frequency_penalty: Penalty = 0.0
    """Sampled responses: taken off the logits of a token for each time that the response holds it."""
    max_samples: PositiveInt | None = None
    """Evaluate at most this many samples of each split or benchmark."""
    max_failed: Annotated[Probability, CHANGEABLE] = 0.5
    """Largest share of questions that failed or could not be scored. Above it there is no result: an evaluation,
    ``evr1 filter`` or ``evr1 trajectories`` stops with exit status 3, and resumes when rerun after the cause is fixed.
    A question of whose responses only some could be scored counts in part."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the reported intervals."""


class RunConfig(BaseConfig):
    """A whole run."""

    name: Annotated[str, CHANGEABLE] = "run"
    """Name of the run."""
    output_dir: Annotated[str, CHANGEABLE] = "runs/{name}"
    """Run directory, from the working directory; ``{name}`` and ``{seed}`` are filled in."""
    seed: int = 0
    """Everything random in the run follows from this number."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of torch; 0 leaves torch's choice. Bit-for-bit resume needs the same number."""
    model: ModelConfig = ModelConfig()
    """The policy."""
    data: DataConfig = DataConfig()
    """The data."""
    cache: CacheConfig = CacheConfig()
    """The frame cache."""
    prompts: PromptConfig = PromptConfig()
    """The prompts."""
    rewards: RewardConfig = RewardConfig()
    """The rewards."""
    rollout: RolloutConfig = RolloutConfig()
    """Generation."""
    cluster: Annotated[ClusterConfig, CHANGEABLE] = ClusterConfig()
    """The ranks that train."""
    stages: Annotated[tuple[StageConfig, ...], Loops()] = ()
    """What is done, in order; each stage hands its checkpoint to the next. An entry ``{repeat: 2, stages: [...]}`` is a
    loop: its stages twice, those of the second round with names that end in ``-2`` (docs/stages.md)."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation."""
    loggers: Annotated[tuple[str, ...], CHANGEABLE] = ()
    """Where metrics go beside the files of the run: ``tensorboard``, ``wandb``, ``trackio``, ``swanlab``, or
    ``module:attr`` of a function ``(config, run_dir)`` that makes a logger of your own. Each needs its package. One
    that fails or cannot be reached never stops a run."""
    project: Annotated[str, CHANGEABLE] = "easyvideor1"
    """Name of the project in services of ``loggers``."""
    trace_steps: Annotated[NonNegativeInt, CHANGEABLE] = 20
    """Last steps of each stage of which ``stages/*/trace.json`` shows what trainer, engine and rewards did when; 0
    writes no trace."""
    canary: Annotated[CanaryConfig, CHANGEABLE] = CanaryConfig()
    """Warnings of policies that are paid for something else than answering."""

    _origin: Origin = PrivateAttr(default=Origin())

    @property
    def read_from(self) -> Origin:
        """Where the configuration was read; paths that it names are looked for there, too."""
        return self._origin

    def set_origin(self, folder: Path) -> None:
        """Note the directory of the YAML file; for whoever reads one."""
        self._origin = Origin(folder)

    @model_validator(mode="after")
    def _stage_names_differ(self) -> RunConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must differ, got {names}")
        return self

    @model_validator(mode="after")
    def _stale_responses_are_corrected(self) -> RunConfig:
        stages = tuple(with_correction(stage, self.rollout.max_staleness) for stage in self.stages)
        self.__dict__["stages"] = stages  # the model is frozen for its users
        return self

    @model_validator(mode="after")
    def _stages_fit_the_run(self) -> RunConfig:
        of_stages = [fault for stage in self.stages for fault in self._conflicts(stage)]
        of_engines = vllm_conflicts(self.rollout, self.cluster, self.data.max_prompt_tokens)
        if faults := [*rollout_conflicts(self.rollout), *of_engines, *of_stages]:
            raise ValueError("; ".join(faults))
        return self

    def _conflicts(self, stage: StageConfig) -> Iterator[str]:
        """A sentence for each option of a stage that contradicts another section, and what to set instead."""
        limit = self.rollout.max_new_tokens
        yield from staleness_conflicts(stage, self.rollout)
        yield from self._unread_stages(stage)
        yield from strategy_conflicts(stage, self.rollout.strategy)
        if stage.overlong.cache > limit:
            yield (
                f"stages.{stage.name}.overlong.cache ({stage.overlong.cache}) is larger than rollout.max_new_tokens "
                f"({limit}), before which it begins: lower it"
            )
        # A reward of the user's own may put any part into its scores.
        if self.rewards.custom:
            return
        parts = [part.name for part in self.rewards.parts]
        if stage.selection.filters:
            known = ["accuracy", "format", "total", *parts]
            yield from _unknown(f"stages.{stage.name}.selection.filter_key", [stage.selection.filter_key], known)
        if isinstance(stage.advantage, GDPOOptions):
            key = f"stages.{stage.name}.advantage.part_weights"
            yield from _unknown(key, stage.advantage.part_weights, ["accuracy", "format", *parts])

    def _unread_stages(self, stage: StageConfig) -> Iterator[str]:
        """A sentence if a stage reads rollouts that no earlier stage makes."""
        if stage.rollouts is None:
            return
        names = [one.name for one in self.stages]
        earlier = self.stages[: names.index(stage.name)]
        made = [one.name for one in earlier if one.trajectories == "policy"]
        wanted = stage.rollouts.stages
        if not made:
            yield (
                f"stages.{stage.name}.rollouts: no earlier stage generates responses; put one with trajectories: "
                "policy before it"
            )
        elif unknown := [name for name in wanted if name not in made]:
            yield (
                f"stages.{stage.name}.rollouts.stages: {unknown[0]!r} is no earlier stage that generates responses; "
                f"those are {', '.join(made)}"
            )
        read = [one for one in earlier if one.name in (wanted or made)]
        if stage.rollouts.pairs and (moved := [one.name for one in read if one.curriculum.name != "none"]):
            yield (
                f"stages.{stage.name}.rollouts: the samples of {moved[0]} follow a curriculum, so that its prompts "
                "cannot be made again: leave it out of rollouts.stages, or its curriculum out"
            )

    @model_validator(mode="after")
    def _ranks_have_what_they_need(self) -> RunConfig:
        learns = self.model.learning & {"vision", "merger"}
        if self.model.vision_chunk and self.cluster.ranks > 1 and learns:
            frozen = (
                "leave vision and merger out of model.lora.targets"
                if self.model.lora
                else "model.freeze=[vision,merger]"
            )
            names = " and ".join(sorted(learns, reverse=True))
            raise ValueError(
                f"model.vision_chunk would have no effect: of the vision tower {names} can learn, so that ranks share "
                f"it and call it once in a pass, whatever media they have; set model.vision_chunk=0, or {frozen}"
            )
        if self.cluster.ranks == 1:
            if "parameters" in self.model.offload:
                raise ValueError(
                    "model.offload: parameters are offloaded where ranks share them; set cluster.ranks=2 or more, or "
                    "leave parameters out"
                )
            return self
        if self.rollout.engine == "vllm" and not self.rollout.workers:
            raise ValueError(
                "cluster.ranks: vllm in the process of the trainer would meet in the process group of the ranks; set "
                "rollout.workers=1"
            )
        if self.model.device not in ("auto", "cpu", "cuda"):
            raise ValueError(
                f"model.device is {self.model.device}, and cluster.ranks takes a device for each rank; set it to auto, "
                "cpu or cuda"
            )
        self.cluster.engine_share(self.rollout.workers, self.rollout.gpus_per_worker)  # refuses what leaves no rest
        if self.cluster.sequence_parallel > 1 and self.model.attention != "sdpa":
            raise ValueError(
                f"model.attention is {self.model.attention}, and cluster.sequence_parallel exchanges heads in the "
                "attention over packed rows: set model.attention to sdpa, or cluster.sequence_parallel to 1"
            )
        return self

    @model_validator(mode="after")
    def _features_need_a_frozen_tower(self) -> RunConfig:
        if self.cache.features and (missing := {"vision", "merger"} - set(self.model.freeze)):
            raise ValueError(
                "cache.features keeps what the vision tower computes, which changes with every step that trains it: "
                f"add {', '.join(sorted(missing))} to model.freeze, or set cache.features to false"
            )
        return self


def _unknown(key: str, wanted: Iterable[str], known: list[str]) -> Iterator[str]:
    for name in wanted:
        if name not in known and name not in RULE_PARTS:
            near = difflib.get_close_matches(name, [*known, *sorted(RULE_PARTS)], n=1)
            hint = f"did you mean {near[0]}?" if near else f"set one of {', '.join(known)}, or add it to rewards.parts"
            yield f"{key}: no score has a part {name!r}: {hint}"
