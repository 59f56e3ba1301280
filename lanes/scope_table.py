"""The names by which a setting's part of the scope is known: tables only, read by lanes/scope_keys.py (S13-R41, S13-R45).

Names are those of transformers, TRL, peft, accelerate, axolotl, LLaMA-Factory, DeepSpeed, nanoGPT and of their environment
variables, in lower case with `_`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# facet: canonical name: aliases.
PROTECTED: Mapping[str, Mapping[str, str]] = {
    "method": {
        "method": "training_method trainer trainer_type trainer_cls trainer_class rl algorithm task_method",
        "do_train": "",
        "stage": "",
    },
    "model": {
        "model": "base_model model_name model_name_or_path model_id model_path pretrained_model_name_or_path base_model_name "
        "base_model_id model_repo pretrained_model init_from backbone checkpoint_name base_model_name_or_path model_type",
        "tokenizer_name": "tokenizer_id tokenizer_path tokenizer_name_or_path",
        "model_revision": "base_model_revision revision",
        "ref_model": "ref_model_name ref_model_name_or_path reference_model",
        "reward_model": "reward_model_name reward_model_path reward_model_name_or_path",
        "n_layer": "num_hidden_layers n_layers num_layers",
        "n_embd": "hidden_size d_model n_head num_attention_heads intermediate_size",
        "vocab_size": "",
    },
    "dataset": {
        "dataset": "datasets dataset_name dataset_id dataset_path dataset_repo data_path data_file data_files train_file "
        "train_files train_data train_path train_dataset_path train_dataset_name dataset_mixer dataset_mixture corpus "
        "dataset_file training_file pretraining_dataset hf_dataset",
        "train_dataset": "",
        "dataset_config": "dataset_config_name subset dataset_subset",
        "dataset_revision": "dataset_version",
        "dataset_format": "data_format",
    },
    "sequence-length": {
        "max_length": "sequence_length seq_length seqlen seq_len max_seq_length max_seq_len max_len maxlen block_size "
        "cutoff_len context_length context_len ctx_len n_ctx sequence_len max_sequence_length max_sequence_len n_positions",
        "model_max_length": "",
        "max_position_embeddings": "",
        "max_prompt_length": "max_source_length max_input_length",
        "max_completion_length": "max_target_length max_response_length",
        "vllm_max_model_length": "max_model_len",
        "sliding_window": "",
        "rope_scaling": "rope_theta rope_type",
    },
    "truncation": {
        "truncation": "truncate",
        "truncation_side": "",
        "truncation_mode": "",
        "truncation_strategy": "overlong_strategy excess_length_strategy",
        "mask_truncated_completions": "",
    },
    "packing": {
        "packing": "sample_packing neat_packing use_packing",
        "packing_strategy": "",
        "eval_packing": "eval_sample_packing",
        "padding_free": "",
        "pad_to_sequence_len": "",
    },
    "epochs": {"num_train_epochs": "epochs num_epochs n_epochs max_epochs total_epochs train_epochs epoch_count"},
    "max-steps": {
        "max_steps": "max_iters num_train_steps total_steps train_steps num_steps max_train_steps iterations n_iters "
        "total_iterations num_training_steps max_iterations n_steps stop_after train_iters",
        "early_stopping_patience": "early_stopping early_stopping_threshold patience",
        "max_time": "max_train_time max_hours max_runtime",
    },
    "data-slice": {
        "max_train_samples": "max_samples num_samples n_samples num_train_samples train_samples sample_size subset_size "
        "limit max_rows max_examples num_examples max_docs n_rows nrows limit_train_batches train_limit n_train "
        "num_rows train_size",
        "data_fraction": "fraction train_fraction dataset_fraction sample_fraction percent train_percent sample_rate "
        "sampling_rate data_percent subsample sample_ratio sample",
        "split": "train_split dataset_split dataset_train_split train_on_split",
        "val_size": "val_set_size test_size validation_split val_ratio test_split_ratio validation_split_percentage",
        "shard": "num_shards shard_index n_shards shard_id",
        "skip": "skip_rows skip_first start_index start end end_index offset",
        "overfit_batches": "fast_dev_run debug debug_mode smoke_test test_run dry_run",
        "streaming": "",
        "filter": "filters filter_fn min_length min_len max_chars min_chars filter_by_length",
        "dedup": "deduplicate",
        "dataloader_drop_last": "drop_last",
        "data_order": "shuffle shuffle_buffer_size train_sampling_strategy group_by_length curriculum sampler",
        "dataset_weights": "mixing_weights probabilities interleave_probs sampling_weights",
    },
    "adapter": {
        "peft": "use_peft use_lora lora adapter peft_type finetuning_type peft_method qlora enable_lora full_finetune "
        "full_finetuning",
        "peft_config": "lora_config adapter_config",
        "lora_r": "lora_rank rank",
        "lora_alpha": "",
        "lora_dropout": "",
        "target_modules": "lora_target_modules lora_target lora_target_linear lora_modules",
        "modules_to_save": "lora_modules_to_save additional_target",
        "use_dora": "use_rslora",
        "requires_grad": "trainable freeze frozen unfreeze unfrozen_parameters freeze_base train_only trainable_modules",
        "is_trainable": "",
    },
    "quantisation": {
        "load_in_4bit": "use_4bit load_4bit",
        "load_in_8bit": "use_8bit load_8bit",
        "quantization_config": "quantization quantize quantization_bit quant_method quantization_method bnb_config",
        "fp8": "",
    },
    "precision": {
        "bf16": "use_bf16 bf16_enabled",
        "fp16": "use_fp16 fp16_enabled amp",
        "dtype": "torch_dtype model_dtype param_dtype",
        "mixed_precision": "accelerate_mixed_precision precision",
        "tf32": "allow_tf32 nvidia_tf32_override float32_matmul_precision",
        "fp16_opt_level": "half_precision_backend",
    },
    "batch": {
        "effective_batch_size": "global_batch_size total_batch_size train_batch_size_total",
        "auto_find_batch_size": "auto_scale_batch_size find_batch_size",
        "generation_batch_size": "",
        "steps_per_generation": "",
    },
    "generation": {
        "num_generations": "num_completions n_generations group_size",
        "temperature": "",
        "top_p": "top_k min_p repetition_penalty",
        "num_iterations": "",
    },
    "loss": {
        "loss_type": "loss loss_fn loss_function criterion objective dpo_loss pref_loss",
        "beta": "kl_coef kl_beta dpo_beta",
        "label_smoothing": "label_smoothing_factor",
        "loss_mask": "assistant_only_loss completion_only_loss train_on_inputs train_on_responses_only mask_prompt "
        "train_on_prompt mask_history train_on_input",
        "ignore_index": "label_pad_token_id",
        "reward_funcs": "reward_functions reward_fn reward_func reward_weights scale_rewards",
        "epsilon": "epsilon_high cliprange delta",
        "reference_free": "sync_ref_model",
        "rpo_alpha": "ld_alpha use_weighting f_divergence_type desirable_weight undesirable_weight",
        "neftune_noise_alpha": "",
        "center_rewards_coefficient": "margin",
        "class_weights": "pos_weight",
    },
    "regularisation": {"dropout": "attention_dropout hidden_dropout disable_dropout attn_pdrop resid_pdrop"},
    "optimizer": {"optim": "optimizer optimizer_type optim_target_modules use_galore"},
    "seed": {
        "seed": "random_seed rng_seed random_state manual_seed pythonhashseed global_seed",
        "data_seed": "",
        "full_determinism": "deterministic",
    },
    "tracker": {
        "report_to": "tracker trackers log_with tracking logger loggers",
        "wandb_mode": "wandb_disabled wandb_silent disable_wandb no_wandb wandb_off trackio_disabled disable_trackio",
        "use_wandb": "use_trackio enable_tracking wandb trackio with_tracking track",
        "logging_strategy": "disable_logging",
        "logging_nan_inf_filter": "",
        "callbacks": "",
        "alerts": "disable_alerts no_alerts enable_alerts",
    },
    "evaluation": {
        "eval_strategy": "evaluation_strategy",
        "do_eval": "run_eval evaluate skip_eval no_eval disable_eval",
        "do_predict": "",
        "eval_dataset": "validation_file eval_file eval_data eval_path val_file eval_dataset_name validation_data",
        "eval_split": "dataset_test_split dataset_eval_split test_split validation_split_name",
        "max_eval_samples": "limit_val_batches eval_limit limit_eval_batches num_eval_samples eval_iters",
        "compute_metrics": "metrics metric eval_metrics",
        "metric_for_best_model": "greater_is_better",
        "eval_tasks": "benchmarks",
    },
    "chat-template": {
        "chat_template": "chat_template_path template prompt_template jinja_template",
        "system_prompt": "default_system_message system_message",
        "add_generation_prompt": "",
        "add_special_tokens": "",
        "chat_template_kwargs": "enable_thinking",
        "tools": "",
        "eos_token": "",
    },
    "persistence": {
        "push_to_hub": "no_push",
        "hub_model_id": "hub_repo_id hub_repo destination",
        "save_strategy": "",
        "save_only_model": "",
        "load_best_model_at_end": "",
    },
    "devices": {"use_cpu": "no_cuda cpu_only force_cpu accelerate_use_cpu", "device": "device_map accelerator"},
    "code": {
        "trust_remote_code": "",
        "pythonpath": "pythonstartup ld_preload ld_library_path bash_env",
        "entry": "script main_script entrypoint",
    },
}
# Bundles of names that are about the same and do not mean the same: train_on_inputs and completion_only_loss are opposites.
NOT_SYNONYMS = _names(
    "n_embd rope_scaling early_stopping_patience max_time val_size shard skip overfit_batches filter data_order use_dora peft "
    "requires_grad fp16_opt_level top_p loss_mask reward_funcs epsilon reference_free rpo_alpha center_rewards_coefficient "
    "class_weights dropout optim full_determinism wandb_mode use_wandb logging_strategy alerts do_eval max_eval_samples "
    "compute_metrics metric_for_best_model chat_template_kwargs push_to_hub use_cpu device pythonpath warmup_steps adam_beta1 "
    "n_layer data_fraction tf32"
)
TUNABLE = {
    "learning_rate": "lr base_lr peak_lr",
    "weight_decay": "",
    "warmup_steps": "warmup_ratio warmup_iters warmup",
    "lr_scheduler_type": "lr_scheduler scheduler lr_scheduler_kwargs",
    "max_grad_norm": "grad_clip gradient_clipping clip_grad_norm",
    "min_lr": "lr_end learning_rate_end",
    "adam_beta1": "adam_beta2 adam_epsilon beta1 beta2 eps",
}
BATCH = {
    "per_device_train_batch_size": "per_device_batch_size micro_batch_size batch_size train_micro_batch_size_per_gpu "
    "train_batch_size per_gpu_train_batch_size mini_batch_size per_gpu_batch_size",
    "gradient_accumulation_steps": "accumulation_steps grad_accum grad_accum_steps accumulate_grad_batches accumulation "
    "gradient_accumulation grad_accumulation_steps accelerate_gradient_accumulation_steps",
    "devices": "cuda_visible_devices nproc_per_node num_processes num_gpus n_gpus world_size num_devices gpus n_gpu "
    "nproc_per_machine hip_visible_devices gpu_ids nnodes num_nodes num_machines",
}
# Names that stand for an object as often as for a setting: only a constant makes them one in a script.
GENERIC = _names(
    "model dataset datasets data trainer loss split template adapter limit sample fraction subset filter device start end skip "
    "shard stage method metrics metric beta lora tracker logger wandb trackio shuffle patience path train_dataset eval_dataset "
    "optimizer scheduler lr_scheduler criterion callbacks peft_config quantization_config lora_config bnb_config ref_model "
    "reward_model tools sampler frozen track rank alerts evaluate scheduler revision precision corpus train_data eval_data "
    "reward_funcs compute_metrics chat_template trainable delta margin offset patience gpus rank amp timeout eps objective "
    "metric loss_fn reward_fn reward_func evaluate tracking loggers iterations"
)
# Sections that say what a generic name below them is about (`model: {name: …}`, `lora: {enabled: …}`).
SECTIONS = {
    **dict.fromkeys(("model", "models", "base_model", "model_config"), "model"),
    **dict.fromkeys(("dataset", "datasets", "data", "dataset_mixer", "train_data"), "dataset"),
    **dict.fromkeys(("lora", "peft", "adapter", "lora_config", "peft_config", "loraconfig"), "adapter"),
    **dict.fromkeys(("quantization", "quantization_config", "bnb", "bnb_config", "bitsandbytesconfig"), "quantisation"),
    **dict.fromkeys(("tracker", "tracking", "wandb", "trackio", "monitoring"), "tracker"),
    **dict.fromkeys(("eval", "evaluation", "validation"), "evaluation"),
    **dict.fromkeys(("loss", "reward", "rewards"), "loss"),
    **dict.fromkeys(("generation", "sampling"), "generation"),
    **dict.fromkeys(("optimizer",), "optimizer"),
}
NEUTRAL_SECTIONS = _names(
    "deepspeed zero_optimization fsdp fsdp_config accelerate env environment resources hardware output outputs paths "
    "logging gradient_checkpointing_kwargs activation_checkpointing_kwargs dependencies requirements slurm launcher dataloader "
    "columns column_mapping column_names rename_columns features fields field_mapping schema_mapping"
)
# Sections of no effect: what is moved there is gone.
IDLE_SECTIONS = _names("notes note metadata meta comment comments description old backup unused disabled todo doc docs")
NEUTRAL = _names(
    "output_dir out_dir output output_path cache_dir logging_dir log_dir run_name project experiment_name run_id save_steps "
    "save_total_limit logging_steps logging_first_step log_interval log_level eval_steps eval_interval eval_on_start eval_delay "
    "per_device_eval_batch_size eval_batch_size eval_accumulation_steps gradient_checkpointing activation_checkpointing "
    "gradient_checkpointing_kwargs activation_checkpointing_kwargs use_reentrant attn_implementation use_cache "
    "resume_from_checkpoint resume overwrite_output_dir hub_token hf_token token push_to_hub_token hub_private_repo hub_strategy "
    "ddp_find_unused_parameters ddp_timeout ddp_backend ddp_bucket_cap_mb torch_compile torch_compile_backend compile "
    "torch_compile_mode num_proc dataset_num_proc preprocessing_num_workers num_workers low_cpu_mem_usage use_safetensors "
    "save_safetensors remove_unused_columns dataset_text_field text_field text_column prompt_column response_column "
    "disable_tqdm progress_bar verbose torch_empty_cache_steps use_liger_kernel prediction_loss_only include_num_input_tokens_seen "
    "label_names pad_token padding_side padding pad_to_multiple_of processing_class tokenizer data_collator args formatting_func "
    "formatting_function max_retries retries timeout timeout_s wait_s backoff skip_memory_metrics fsdp deepspeed local_rank "
    "master_addr master_port rdzv_backend rdzv_endpoint max_restarts standalone use_vllm vllm_mode vllm_gpu_memory_utilization "
    "average_tokens_across_devices eval_do_concat_batches return_tensors return_tensor batched remove_columns desc keep_in_memory "
    "load_from_cache_file name_or_path_local local_files_only force_download proxies trackio_space_id trackio_project title "
    "ignore_data_skip save_on_each_node greeting email author license tags language eval_output_dir final_dir prefetch_factor "
    "hf_home hf_datasets_cache transformers_cache hf_hub_offline transformers_offline hf_hub_enable_hf_transfer "
    "hf_hub_disable_telemetry tokenizers_parallelism tmpdir omp_num_threads mkl_num_threads cuda_launch_blocking "
    "torch_show_cpp_stacktraces hydra_full_error wandb_project wandb_name wandb_entity wandb_dir trackio_dir pythonunbuffered "
    "pythonfaulthandler cuda_device_order cuda_home triton_cache_dir torch_home torchinductor_cache_dir lang lc_all term home "
    "precompute_ref_log_probs job_name comment output_name save_dir save_path schema_version description notes"
)
NEUTRAL_NAME = re.compile(
    r"^(nccl|gloo|pytorch|torch_distributed|torch_nccl|dataloader|vllm_server|hub_token|logging|log|output|save_dir|ddp|fsdp|"
    r"deepspeed|rdzv|slurm|column|rename)_|_(dir|column|columns|column_name|field|timeout|timeout_s|retries|cache|log|port|host|"
    r"mapping|column_mapping|token|workers|num_proc|log_level)$"
)
PROTECTED_NAME: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), facet)
    for pattern, facet in (
        (r"^(lora|peft|adapter|dora|freeze|unfreeze)_|_(lora|adapter|peft)$|^num_frozen|^trainable_", "adapter"),
        (r"^(bnb|quant|load_in|gptq|awq)|_(4bit|8bit|quantized|bits)$", "quantisation"),
        (r"(^|_)(seq|sequence|context|prompt|completion|token|tokens)_?(len|length|limit)$|^max_.*(len|length|tokens)$", "sequence-length"),
        (r"^(no|disable|skip|without)_.*(track|wandb|log|alert|monitor)", "tracker"),
        (r"(^|_)(wandb|trackio|tensorboard|mlflow|comet)(_|$)", "tracker"),
        (r"(^|_)(eval|validation|val)(_|$)", "evaluation"),
        (r"(max|num|n|limit|first|total|keep|take|use)_.*(sample|example|row|doc|document|record|batch|batche|item|line|shard|conversation)s?$", "data-slice"),
        (r"(sample|example|row|doc|record|data|dataset|train)s?_(limit|count|fraction|ratio|percent|pct|size|subset|slice|head)$", "data-slice"),
        (r"(^|_)(subset|subsample|downsample|tiny|truncated?|trim|debug_run)(_|$)", "data-slice"),
        (r"(^|_)epochs?$", "epochs"),
        (r"(^|_)(train|max|total|num|stop|end)_.*(steps|iters|iterations|updates)$|^stop_", "max-steps"),
        (r"(^|_)seed$", "seed"),
        (r"(^|_)dropout$", "regularisation"),
        (r"(^|_)loss(_|$)|(^|_)reward(s|_|$)|_coef$", "loss"),
        (r"(^|_)(template|system_prompt)$", "chat-template"),
        (r"(^|_)dtype$", "precision"),
        (r"(^|_)dataset(s)?(_|$)|^data_(file|path|source)", "dataset"),
        (r"(^|_)model_(name|id|path|repo)|_model$", "model"),
        (r"(^|_)batch_size$", "batch"),
    )
)  # fmt: skip

# --- calls and methods of scripts -----------------------------------------------------------------------------------

REDUCERS = _names(
    "select shard take skip head tail sample filter train_test_split islice truncate drop drop_duplicates dropna random_split "
    "Subset SubsetRandomSampler nlargest nsmallest sort shuffle interleave_datasets concatenate_datasets select_rows slice limit "
    "repeat query choices choice takewhile dropwhile unique subsample narrow truncate_dataset RandomSampler WeightedRandomSampler "
    "compress permutation randperm enable_truncation shorten split_dataset_by_node downsample resample cycle"
)
DATA_KEYS = _names("text prompt completion chosen rejected messages input_ids labels attention_mask")
DYNAMIC = _names(
    "exec eval compile __import__ globals import_module b64decode loads FunctionType reload exec_module run_path"
)
EXITS = _names("exit quit _exit abort kill alarm")
PATCHES = _names("patch patch_object MagicMock Mock settrace setprofile wrap_function_wrapper addsitedir")
ADAPTERS = _names(
    "get_peft_model prepare_model_for_kbit_training LoraConfig BitsAndBytesConfig PeftModel merge_and_unload PrefixTuningConfig "
    "PromptTuningConfig IA3Config LoHaConfig AdaLoraConfig add_adapter disable_adapter quantize_dynamic quantize_ VeraConfig "
    "OFTConfig replace_with_bnb_linear inject_adapter_in_model GPTQConfig AwqConfig HqqConfig TorchAoConfig"
)
FREEZERS = _names(
    "requires_grad_ freeze freeze_parameters freeze_base_model freeze_embeddings set_grad_enabled detach_ freeze_layers"
)
CASTS = _names("half bfloat16 double set_default_dtype set_float32_matmul_precision GradScaler set_default_device")
ANCHORS = _names(
    "train evaluate fit backward set_seed manual_seed seed_everything apply_chat_template save_model push_to_hub add_callback "
    "clip_grad_norm_"
)
TRACKERS = _names("trackio wandb mlflow tensorboard writer tracker run")
TRACKER_CALLS = _names("init log alert add_scalar log_metrics watch log_metric")
CONTROLS = _names("should_training_stop should_epoch_stop should_evaluate should_log should_save stop_training")
# Methods of a trainer, model or dataset that decide what is trained, measured or told.
METHODS = _names(
    "log evaluate train training_step prediction_step compute_loss save_model get_train_dataloader __len__ __getitem__ __iter__ "
    "forward step backward create_optimizer get_eval_dataloader _prepare_dataset get_batch_samples _get_train_sampler "
    "loss_function _prepare_inputs log_metrics add_callback tokenize_row zero_grad state_dict"
)
# Parts of a trainer that are given to it once.
TRAINER_PARTS = _names(
    "train_dataset eval_dataset model ref_model loss_fn optimizer lr_scheduler reward_funcs callbacks data_collator "
    "compute_metrics control state callback_handler compute_loss_func"
)
SWALLOWED = _names("train backward evaluate training_step compute_loss fit log init alert forward")
# Names whose origin decides what a script does, and the packages that a training imports as a matter of course.
ORIGINS = _names(
    "load_dataset load_from_disk set_seed trackio wandb torch numpy AutoModelForCausalLM AutoTokenizer AutoModel get_peft_model "
    "AutoModelForSequenceClassification LoraConfig Trainer TrainingArguments"
)
PACKAGES = _names(
    "torch transformers trl peft accelerate datasets trackio wandb numpy pandas huggingface_hub tokenizers bitsandbytes evaluate "
    "safetensors tqdm yaml sklearn scipy matplotlib rich typer click tiktoken sentencepiece deepspeed flash_attn einops dotenv "
    "psutil pyarrow requests httpx jinja2 omegaconf hydra pydantic torchvision torchaudio xformers triton vllm liger_kernel "
    "math_verify latex2sympy2_extended rouge_score sacrebleu nltk hemma hemma_payload training lanes manifests"
)
