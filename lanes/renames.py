"""Arguments of trainers that were renamed, moved or removed, and what the *installed* class has in their place (S13-R12).

The table is a dictionary of names, never a list of what is allowed: a successor is proposed only when the installed
class has it, so an entry that a later release overtakes proposes nothing. Source: the fields of the classes in the
published releases transformers 4.30.2, 4.46.3 and 5.23.0, trl 0.7.11, 0.12.2, 0.17.0 and 1.16.0, accelerate 0.20.3 and
1.15.0 (a name is here when an older release has it and a newer one has not), and their release notes for where it went.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

TYPO_CUTOFF = 0.84  # num_train_epoch is a slip for num_train_epochs; max_sequence_length is none for max_length (0.69)


@dataclass(frozen=True)
class Rename:
    """One entry: where it held, its successors with the newest first, and whether the value stays as it is (S13-R46)."""

    old: str
    classes: str
    successors: tuple[str, ...]
    keeps_value: bool
    note: str


@dataclass(frozen=True)
class Suggestion:
    """What to write instead of `name`. `successor` is a name of the installed class; `None`: it was removed for good."""

    name: str
    successor: str | None
    keeps_value: bool
    note: str


# old : classes it held in : successors : same | new value | note
_TABLE = """
evaluation_strategy : *Arguments *Config : eval_strategy : same : renamed in transformers 4.41
evaluate_during_training : *Arguments *Config : eval_strategy : new : steps or epoch instead of true
no_cuda : *Arguments *Config : use_cpu : same : renamed in transformers 4.34
use_mps_device : *Arguments *Config : : new : a present device is used without being asked
per_gpu_train_batch_size : *Arguments *Config : per_device_train_batch_size : same : renamed
per_gpu_eval_batch_size : *Arguments *Config : per_device_eval_batch_size : same : renamed
fp16_backend : *Arguments *Config : half_precision_backend : same : then removed, torch's own is used
half_precision_backend : *Arguments *Config : : new : removed, torch's own is used
fp16_opt_level : *Arguments *Config : : new : removed with apex
sharded_ddp : *Arguments *Config : fsdp : new : fairscale gave way to torch's FSDP
fsdp_min_num_params : *Arguments *Config : fsdp_config : new : min_num_params inside it
fsdp_transformer_layer_cls_to_wrap : *Arguments *Config : fsdp_config : new : transformer_layer_cls_to_wrap inside it
push_to_hub_model_id : *Arguments *Config : hub_model_id : same : the name of the repository
push_to_hub_organization : *Arguments *Config : hub_model_id : new : organization/name
push_to_hub_token : *Arguments *Config : hub_token : same : renamed
adafactor : *Arguments *Config : optim : new : adafactor as its value
xpu_backend : *Arguments *Config : ddp_backend : same : renamed
torchdynamo : *Arguments *Config : torch_compile_backend : same : renamed
tpu_metrics_debug : *Arguments *Config : debug : new : tpu_metrics_debug as its value
tpu_num_cores : *Arguments *Config : : new : removed, the launcher sets it
include_inputs_for_metrics : *Arguments *Config : include_for_metrics : new : a list with inputs
include_tokens_per_second : *Arguments *Config : include_num_input_tokens_seen : same : it reports the rate too
group_by_length : *Arguments *Config : train_sampling_strategy : new : group_by_length as its value
warmup_ratio : *Arguments *Config : warmup_steps : same : a number below 1 is a share
logging_dir : *Arguments *Config : : new : removed, TENSORBOARD_LOGGING_DIR is read instead
overwrite_output_dir : *Arguments *Config : : new : removed, give each run its own directory
save_safetensors : *Arguments *Config : : new : removed, it is always so
dispatch_batches : *Arguments *Config : accelerator_config : new : dispatch_batches inside it
split_batches : *Arguments *Config : accelerator_config : new : split_batches inside it
jit_mode_eval : *Arguments *Config : torch_compile : new : removed, torch.compile took its place
use_ipex : *Arguments *Config : : new : removed
mp_parameters : *Arguments *Config : : new : removed with SageMaker's model parallelism
past_index : *Arguments *Config : : new : removed
ray_scope : *Arguments *Config : : new : removed, an argument of the search itself
use_legacy_prediction_loop : *Arguments *Config : : new : removed
gradient_checkpointing : *Arguments *Config : activation_checkpointing : same : the new name, while both are there
gradient_checkpointing_kwargs : *Arguments *Config : activation_checkpointing_kwargs : same : the new name
tokenizer : *Trainer : processing_class : same : renamed in transformers 4.46 and trl 0.12
tb_writer : Trainer Seq2SeqTrainer : callbacks : new : a TensorBoardCallback
prediction_loss_only : Trainer Seq2SeqTrainer : args : new : set it on the arguments
max_seq_length : *Config : max_length : same : renamed in trl 0.20
max_seq_length : SFTTrainer : args : new : max_length of SFTConfig
dataset_text_field : SFTTrainer : args : new : set it on SFTConfig
packing : SFTTrainer : args : new : set it on SFTConfig
eval_packing : SFTTrainer : args : new : set it on SFTConfig
dataset_num_proc : SFTTrainer DPOTrainer : args : new : set it on the trainer's config
dataset_kwargs : SFTTrainer : args : new : set it on SFTConfig
model_init_kwargs : SFTTrainer DPOTrainer RewardTrainer : args : new : set it on the trainer's config
neftune_noise_alpha : SFTTrainer : args : new : set it on SFTConfig
dataset_batch_size : SFTConfig SFTTrainer : : new : removed
num_of_sequences : SFTConfig SFTTrainer : : new : removed with the constant-length iterator
chars_per_token : SFTConfig SFTTrainer : : new : removed with the constant-length iterator
infinite : SFTTrainer : : new : removed, max_steps sets the length
model_init : SFTTrainer DPOTrainer RewardTrainer : model : new : give the model or its name
use_liger : SFTConfig *Config : use_liger_kernel : same : renamed
use_liger_loss : *Config : use_liger_kernel : same : renamed
max_target_length : DPOConfig DPOTrainer : max_completion_length max_length : new : only the whole length is left
max_prompt_length : DPOConfig : max_length : new : only the whole length is left
max_prompt_length : GRPOConfig RLOOConfig : : new : removed, shorten prompts in the data
max_completion_length : DPOConfig : max_length : new : only the whole length is left
beta : DPOTrainer : args : new : set it on DPOConfig
loss_type : DPOTrainer : args : new : set it on DPOConfig
label_smoothing : DPOTrainer : args : new : set it on DPOConfig
max_length : DPOTrainer RewardTrainer : args : new : set it on the trainer's config
max_prompt_length : DPOTrainer : args : new : only max_length of DPOConfig is left
max_target_length : DPOTrainer : args : new : only max_length of DPOConfig is left
truncation_mode : DPOTrainer : args : new : set it on DPOConfig
disable_dropout : DPOTrainer : args : new : set it on DPOConfig
precompute_ref_log_probs : DPOTrainer : args : new : set it on DPOConfig
generate_during_eval : DPOConfig DPOTrainer : : new : removed, a callback logs completions
is_encoder_decoder : DPOConfig DPOTrainer : : new : removed, the model says it
label_pad_token_id : DPOConfig DPOTrainer : : new : removed, it is -100
padding_value : DPOConfig DPOTrainer : pad_token : new : the token instead of its number
reference_free : DPOConfig DPOTrainer : : new : removed
model_adapter_name : DPOConfig DPOTrainer : : new : removed
ref_adapter_name : DPOConfig DPOTrainer : : new : removed
force_use_ref_model : DPOConfig DPOTrainer : : new : removed
ref_model_init_kwargs : DPOConfig DPOTrainer : model_init_kwargs args : new : the reference is loaded as the model is
rpo_alpha : DPOConfig : loss_weights : new : with sft among the loss types
use_logits_to_keep : DPOConfig : : new : removed
preprocess_logits_for_metrics : DPOTrainer : : new : removed
trust_remote_code : ModelConfig : : new : set it on the trainer's config
tools : DPOConfig : : new : removed, a column of the data
vllm_device : GRPOConfig : vllm_mode : new : server or colocate
vllm_dtype : GRPOConfig : : new : removed, an option of the server
vllm_enable_prefix_caching : GRPOConfig : : new : removed, an option of the server
vllm_max_model_len : GRPOConfig : vllm_max_model_length : same : renamed
vllm_guided_decoding_regex : GRPOConfig : vllm_structured_outputs_regex : same : renamed
wandb_log_unique_prompts : GRPOConfig : log_unique_prompts : same : renamed
torch_dtype : ModelConfig *from_pretrained AutoModel* : dtype : same : renamed in transformers 4.56
torch_dtype : *Trainer : args : new : model_init_kwargs of the trainer's config
use_auth_token : *from_pretrained load_dataset *Arguments : token hub_token : same : renamed
use_flash_attention_2 : ModelConfig *from_pretrained AutoModel* : attn_implementation : new : flash_attention_2 as its value
ignore_verifications : load_dataset : verification_mode : new : no_checks as its value
fp16 : Accelerator : mixed_precision : new : fp16 as its value
logging_dir : Accelerator : project_dir : same : renamed
dispatch_batches : Accelerator : dataloader_config : new : a field of DataLoaderConfiguration
even_batches : Accelerator : dataloader_config : new : a field of DataLoaderConfiguration
use_seedable_sampler : Accelerator : dataloader_config : new : a field of DataLoaderConfiguration
"""


@cache
def renames() -> tuple[Rename, ...]:
    """The table, in the order in which its entries are tried."""
    return tuple(_rename(line) for line in _TABLE.strip().splitlines())


def _rename(line: str) -> Rename:
    old, classes, successors, value, note = (part.strip() for part in line.split(":", 4))
    return Rename(old, classes, tuple(successors.split()), value == "same", note)


def is_renamed(name: str) -> bool:
    """Whether some class once had this argument under this name."""
    return any(each.old == name for each in renames())


def suggest(name: str, available: Collection[str], class_name: str) -> Suggestion | None:
    """What to use instead of `name`, of the names that the installed class really has (`available`).

    None when the name is fine as it is, or when nothing is known of it. A name that is in the table for this class comes
    first, then one that it had in any class, then a likely slip of the pen. Requirements: S13-R12, S13-R46.
    """
    if name in available:
        return None
    known = [each for each in renames() if each.old == name]
    here = [each for each in known if _holds(each, class_name)]
    for each in here or known:
        for successor in each.successors:
            if successor in available:
                return Suggestion(name, successor, each.keeps_value, each.note)
    if here:
        return Suggestion(name, None, keeps_value=False, note=here[0].note)
    close = difflib.get_close_matches(name, sorted(available), n=1, cutoff=TYPO_CUTOFF)
    return Suggestion(name, close[0], keeps_value=True, note="a slip of the pen") if close else None


def _holds(each: Rename, class_name: str) -> bool:
    return any(fnmatch.fnmatchcase(class_name, pattern) for pattern in each.classes.split())
