"""What other frameworks call our keys: for the advice on a key that does not exist.

Names are those of EasyR1, verl, TRL and its trainers, ms-swift, vLLM and the Qwen-VL examples. They are no aliases: a
configuration has one name for a thing.
"""

from __future__ import annotations

from collections.abc import Mapping

from easyvideor1.config.yaml_source import Keys

_STAGE: Keys = ("stages", 0)
_OBJECTIVE: Keys = (*_STAGE, "objective")
_SELECTION: Keys = (*_STAGE, "selection")
_OPTIMIZER: Keys = (*_STAGE, "optimizer")

#: Our key -> other names of it. Entries of lists show as 0.
SYNONYMS: Mapping[Keys, tuple[str, ...]] = {
    ("name",): ("run_name", "experiment_name", "exp_name"),
    ("project",): ("project_name", "wandb_project"),
    ("output_dir",): ("save_checkpoint_path", "default_local_dir", "save_dir", "out_dir"),
    ("loggers",): ("logger", "report_to", "log_with"),
    ("threads",): ("num_threads",),
    ("model", "path"): ("model_path", "model_name_or_path", "pretrained", "model_id"),
    ("model", "family"): ("model_type", "model_family"),
    ("model", "dtype"): ("torch_dtype", "bf16", "precision", "mixed_precision"),
    ("model", "attention"): ("attn_implementation", "attn_impl"),
    ("model", "freeze"): ("freeze_vision_tower", "freeze_vit", "freeze_vision", "freeze_llm", "freeze_aligner"),
    ("model", "gradient_checkpointing"): ("enable_gradient_checkpointing",),
    ("model", "compile"): ("torch_compile", "use_torch_compile"),
    ("model", "lora"): ("peft", "peft_config", "use_peft", "use_lora"),
    ("model", "lora", "rank"): ("lora_rank", "lora_r", "r"),
    ("model", "lora", "alpha"): ("lora_alpha",),
    ("model", "lora", "dropout"): ("lora_dropout",),
    ("model", "lora", "targets"): ("target_modules", "lora_target_modules"),
    ("data", "train"): ("train_files", "train_file", "train_dataset", "dataset", "dataset_name", "data_path"),
    ("data", "validation"): ("val_files", "val_file", "val_dataset", "eval_dataset", "val"),
    ("data", "test"): ("test_files", "test_file", "test_dataset"),
    ("data", "train", 0, "path"): ("file", "files", "data_files"),
    ("data", "train", 0, "media_root"): ("image_dir", "video_dir", "image_folder", "video_folder", "media_dir"),
    ("data", "question_key"): ("prompt_key", "problem_key"),
    ("data", "max_prompt_tokens"): ("max_prompt_length", "prompt_length", "max_prompt_len"),
    ("data", "on_bad_row"): ("filter_overlong_prompts",),
    ("data", "video", "fps"): ("video_fps", "sample_fps"),
    ("data", "video", "frames"): ("nframes", "num_frames", "n_frames"),
    ("data", "video", "max_frames"): ("video_max_frames", "fps_max_frames", "max_num_frames"),
    ("data", "video", "min_frames"): ("video_min_frames", "fps_min_frames"),
    ("data", "video", "max_pixels"): ("video_max_pixels",),
    ("data", "video", "min_pixels"): ("video_min_pixels",),
    ("data", "video", "total_pixels"): ("video_total_pixels",),
    ("data", "image", "max_pixels"): ("image_max_pixels",),
    ("data", "image", "min_pixels"): ("image_min_pixels",),
    ("cache", "dir"): ("cache_dir", "preprocessed_video_dir"),
    ("cache", "mode"): ("video_source_mode",),
    ("cache", "workers"): ("num_workers", "dataloader_num_workers", "num_proc"),
    ("prompts", "system"): ("system_prompt", "system_message"),
    ("prompts", "templates"): ("format_prompt", "prompt_template", "template"),
    ("prompts", "thinking"): ("thinking_mode", "enable_thinking"),
    ("rewards", "custom"): ("reward_function", "reward_funcs", "reward_fn", "score_function", "custom_reward_function"),
    ("rewards", "parts"): ("reward_weights",),
    ("rollout", "max_new_tokens"): (
        *("max_completion_length", "max_response_length", "response_length", "max_tokens", "max_length"),
        *("completion_length", "max_output_tokens"),
    ),
    ("cluster", "ranks"): ("world_size", "num_processes", "num_gpus"),
    ("rollout", "vllm", "gpu_memory_utilization"): ("vllm_gpu_memory_utilization", "gpu_memory_util", "gpu_mem_util"),
    ("rollout", "vllm", "max_model_len"): ("vllm_max_model_len", "vllm_max_model_length"),
    ("rollout", "vllm", "chunked_prefill"): ("enable_chunked_prefill",),
    ("cluster", "sequence_parallel"): ("ulysses_size", "ulysses_sequence_parallel_size", "context_parallel_size"),
    ("cluster", "shard_size"): ("fsdp_size",),
    ("cluster", "nodes"): ("nnodes", "num_nodes", "num_machines"),
    ("cluster", "gpus_per_node"): ("n_gpus_per_node", "nproc_per_node", "num_gpus_per_node"),
    (*_STAGE, "steps"): ("max_steps", "num_steps", "total_steps", "total_training_steps", "training_steps"),
    (*_STAGE, "epochs"): ("num_train_epochs", "total_epochs", "num_epochs", "total_episodes", "epoch"),
    (*_STAGE, "prompts_per_step"): (
        *("batch_size", "train_batch_size", "rollout_batch_size", "per_device_train_batch_size"),
        *("global_batch_size", "gen_batch_size", "prompts"),
    ),
    (*_STAGE, "group_size"): ("num_generations", "n", "rollout_n", "num_samples", "num_responses", "n_samples"),
    (*_STAGE, "mini_batches"): ("ppo_mini_batch_size", "mini_batch_size", "num_mini_batches"),
    (*_STAGE, "ppo_epochs"): ("num_iterations", "num_ppo_epochs", "update_epochs"),
    (*_STAGE, "micro_batch_tokens"): (
        *("gradient_accumulation_steps", "micro_batch_size", "max_token_len_per_gpu", "ppo_max_token_len_per_gpu"),
        "micro_batch_size_per_device_for_update",
    ),
    (*_STAGE, "logprob_micro_batch_tokens"): (
        *("log_prob_max_token_len_per_gpu", "log_prob_micro_batch_size_per_gpu"),
        "micro_batch_size_per_device_for_experience",
    ),
    (*_STAGE, "advantage"): ("adv_estimator", "advantage_estimator"),
    (*_STAGE, "objective"): ("loss_type", "loss_mode", "policy_loss"),
    (*_STAGE, "aggregation"): ("loss_avg_mode", "loss_agg_mode", "loss_aggregation"),
    (*_OBJECTIVE, "clip_low"): ("clip_ratio", "clip_ratio_low", "epsilon", "cliprange", "eps_clip"),
    (*_OBJECTIVE, "clip_high"): ("clip_ratio_high", "epsilon_high", "eps_clip_higher"),
    (*_OBJECTIVE, "clip_dual"): ("clip_ratio_dual", "clip_ratio_c", "delta"),
    (*_STAGE, "advantage", "lam"): ("gae_lam", "gae_lambda", "lambda"),
    (*_OBJECTIVE, "entropy_coef"): ("entropy_coeff", "ent_coef"),
    (*_STAGE, "kl"): ("use_kl_loss", "kl_ctrl"),
    (*_STAGE, "kl", "estimator"): ("kl_penalty", "kl_loss_type", "kl_type"),
    (*_STAGE, "kl", "coef"): ("beta", "kl_loss_coef", "kl_coeff", "init_kl_coef"),
    (*_SELECTION, "generation_rounds"): ("max_try_make_batch", "max_num_gen_batches", "dynamic_sample"),
    (*_SELECTION, "filter_low"): ("online_filtering", "filter_groups"),
    (*_STAGE, "overlong", "filter"): ("mask_truncated_completions",),
    (*_STAGE, "hybrid"): ("enable_mix_policy", "mix_policy"),
    (*_STAGE, "save_every"): ("save_freq", "save_steps", "checkpoint_every"),
    (*_STAGE, "keep_checkpoints"): ("save_limit", "save_total_limit", "max_ckpt_to_keep", "max_actor_ckpt_to_keep"),
    (*_OPTIMIZER, "lr"): ("learning_rate",),
    (*_OPTIMIZER, "betas"): ("adam_beta1", "adam_beta2", "adam_betas"),
    (*_OPTIMIZER, "eps"): ("adam_epsilon", "adam_eps"),
    (*_OPTIMIZER, "schedule"): ("lr_scheduler_type", "lr_scheduler", "warmup_style", "scheduler"),
    (*_OPTIMIZER, "warmup_steps"): ("num_warmup_steps", "lr_warmup_steps", "warmup"),
    (*_OPTIMIZER, "warmup_ratio"): ("lr_warmup_ratio", "lr_warmup_steps_ratio", "warmup_fraction"),
    (*_OPTIMIZER, "max_grad_norm"): ("grad_clip", "clip_grad", "gradient_clipping", "max_norm"),
    (*_OPTIMIZER, "weight_decay"): ("wd",),
    _OPTIMIZER: ("optim", "adamw"),
    ("evaluation", "every"): ("val_freq", "test_freq", "eval_steps", "eval_every", "val_every"),
    ("evaluation", "samples"): ("val_n", "eval_n"),
    ("evaluation",): ("val", "eval", "validation"),
}

#: The same for names that mean our key only beside it; elsewhere they mean another, or nothing.
LOCAL_SYNONYMS: Mapping[Keys, tuple[str, ...]] = {
    (*_STAGE, "critic", "lr"): ("learning_rate",),
    (*_STAGE, "kl", "coef"): ("kl_coef", "weight"),
    (*_STAGE, "kl", "placement"): ("kl_in",),
    ("evaluation", "samples"): ("n", "num_generations", "num_samples", "n_samples"),
    ("evaluation", "every"): ("steps", "freq", "interval"),
    ("cache", "dir"): ("path", "directory"),
    ("rewards", "processes"): ("num_workers", "num_processes"),
    ("rewards", "judge", "url"): ("base_url", "endpoint", "api_base"),
    ("rewards", "judge", "reply_tokens"): ("max_new_tokens",),
}
