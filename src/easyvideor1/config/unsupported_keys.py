"""Keys of EasyR1 and EasyVideoR1 that have no counterpart here, and why; ``migrate`` tells its user."""

from __future__ import annotations

from collections.abc import Mapping

#: Keys that ask, with this value, for what is so in every run: nothing is lost, and nothing is told.
HOLDS: Mapping[str, object] = {
    "algorithm.gamma": 1.0,
    "algorithm.use_kl_loss": False,
    "trainer.critic_warmup": 0,
    "trainer.val_only": False,
    "trainer.save_model_only": False,
    "trainer.find_last_checkpoint": True,
    "trainer.remove_ckpt_after_load": False,
    "trainer.del_local_ckpt_after_load": False,
    "worker.hybrid_engine": True,
    "worker.actor.padding_free": True,
    "worker.actor.dynamic_batching": True,
    **{
        f"worker.{model}.fsdp.{name}": value
        for model in ("actor", "critic", "ref")
        for name, value in {
            "enable_full_shard": True,
            "use_orig_params": False,
            "mp_reduce_dtype": "fp32",
            "mp_buffer_dtype": "fp32",
        }.items()
    },
    "worker.ref.fsdp.enable_cpu_offload": False,
    "worker.ref.offload.offload_params": False,
    "worker.rollout.limit_images": 0,
    "worker.rollout.ignore_eos": False,
    "worker.rollout.do_sample": True,
    "worker.rollout.name": "vllm",
    "worker.rollout.disable_log_stats": True,
    "worker.rollout.disable_tqdm": False,
    "worker.rollout.tensor_parallel_size": 1,
}

_PENALTY = "in training it would draw from another policy than the one that learns; evaluation has it"

#: Prefix of old keys -> why they have no counterpart. The longest prefix that fits is taken.
REASONS: Mapping[str, str] = {
    "data.format_prompt": "one template for all rows is _base.j2 here: put yours into a directory, with {{ question }} "
    "for {{ content }} or {{ problem }}, and name it in prompts.templates; <task>.j2 beside it is for one task type",
    "data.override_chat_template": "the chat template is the checkpoint's",
    "data.mini_rollout_batch_size": "how rows are fetched is not a setting",
    "data.val_batch_size": "evaluation sizes its own batches",
    "data.val_preprocessed_video_dir": "the frame cache keeps another format: run `evr1 cache build` once",
    "data.val_video_source_mode": "training and evaluation share one frame cache and its cache.mode",
    "data.filter_overlong_prompts_workers": "lengths are planned without decoding, which needs no workers",
    "data.preprocessed_video_dir": "the frame cache keeps another format: run `evr1 cache build` once",
    "data.return_raw": "what a row gives to the engine is not a setting",
    "algorithm.gamma": "returns are discounted by gae alone (stages.0.advantage.gamma)",
    "algorithm.lam": "it is for gae (stages.0.advantage.lam)",
    "algorithm.use_kl_loss": "disable_kl is on in this file",
    "algorithm.kl_": "the KL in the reward was not carried over (algorithm.kl_penalty): set stages.0.kl",
    "worker.critic": "a critic is a copy of the policy and trains as it does, but for the keys of stages.0.critic",
    "worker.ref": "there is a reference with a KL alone; it is the stage's initial policy and runs as the policy does",
    "worker.hybrid_engine": "how engines share the machine is not a setting",
    "worker.actor.use_torch_compile": "model.compile compiles the layers, if it is set",
    "worker.actor.padding_free": "micro batches are always rows without padding",
    "worker.actor.dynamic_batching": "micro batches are always balanced by their work",
    "worker.actor.fsdp": "how a model is sharded follows from cluster.ranks and cluster.shard_size",
    "worker.actor.fsdp.enable_full_shard": "layers are always gathered when they run and freed again (ZeRO-3)",
    "worker.actor.fsdp.enable_rank0_init": "every rank reads the checkpoint and keeps its part (docs/scaling.md)",
    "worker.actor.fsdp.mp_": "gradients are summed in float32, and buffers are as the model has them",
    "worker.actor.checkpoint": "checkpoints have all that resuming needs, and can be exported (evr1 export)",
    "worker.actor.model.override_config": "the checkpoint's configuration is taken as it is",
    "worker.actor.model.lora": "adapters have a rank, alpha, dropout and groups of modules (model.lora)",
    "worker.actor": "how a step is computed is not a setting",
    "worker.rollout.repetition_penalty": _PENALTY,
    "worker.rollout.presence_penalty": _PENALTY,
    "worker.rollout.frequency_penalty": _PENALTY,
    "worker.rollout.mix_policy": "the offline responses were not carried over (worker.rollout.enable_mix_policy)",
    "worker.rollout.limit_images": "a row may hold any number of media",
    "worker.rollout.ignore_eos": "a response ends with its stop token",
    "worker.rollout.do_sample": "responses of training are always sampled",
    "worker.rollout.disable_tqdm": "a bar counts the steps of a run; where there is no terminal, lines do",
    "worker.rollout.dtype": "the engine computes in model.dtype",
    "worker.rollout.name": "the engine is vllm (rollout.engine)",
    "worker.rollout": "how vLLM is run is in rollout and rollout.vllm, which do not have it",
    "worker.reward.reward_type": "a reward of your own takes one response, and one of rewards.parts may take a group",
    "worker.reward.skip_special_tokens": "rewards read a response up to its stop token, with all tokens before it",
    "worker.reward.num_cpus": "rewards.workers says how many answers are compared side by side",
    "worker.reward": "rewards are configured under rewards",
    "trainer.logger": "metrics are files of the run directory",
    "trainer.critic_warmup": "the policy did not learn before this step; without a critic it now does",
    "trainer.val_only": "there are no validation files in this file",
    "trainer.val_generations_to_log": "all responses of an evaluation are kept in the run directory",
    "trainer.save_model_only": "checkpoints can always be resumed",
    "trainer.load_checkpoint_path": "set model.path to the checkpoint, or run the same command again to resume",
    "trainer.find_last_checkpoint": "a run that is started again resumes by itself; for a new run use another name",
    "trainer.remove_previous_ckpt": "stages.0.keep_checkpoints says how many are kept",
    "trainer.remove_ckpt_after_load": "checkpoints go only when newer ones come (stages.0.keep_checkpoints)",
    "trainer.del_local_ckpt_after_load": "checkpoints go only when newer ones come (stages.0.keep_checkpoints)",
    "trainer.report_kl": "a KL is among the metrics wherever there is one (stages.0.kl)",
    "trainer.ray_timeline": "timings are files of the run directory",
}
