"""What each failure looks like in a log: words to find it by, a pattern to be sure, and how much it weighs.

The words are searched first, at memory speed, in lower case; the pattern is tried only around one that is found. A space
in a pattern stands for any white space, line ends included, because consoles break messages. `(?P<name>...)` is what the
mend is about. Sources: the messages of the libraries themselves (transformers 5.23, trl 1.16, torch 2.15 and older ones),
of Slurm, PBS and LSF, and the dev half of tests/cases/failures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

# Weights. A cause (3) outweighs what was observed (2.5), a plain exception (2), a person's words (1.5) and a consequence
# (1): the launcher's summary, a peer that waited in vain, the signal that ended the other ranks. A cause with something
# added hides the plainer one in the same place: the missing torch of an isolated build is not the job's.
ARGUMENT = r"[\"'`\u2018\u2019](?P<name>\w+)"
QUOTED = r"[\"'`](?P<name>[^\"'`\n]{1,120})[\"'`]"


@dataclass(frozen=True)
class Signature:
    """One way a failure shows; `needles` are in lower case, `pattern` is tried near each of them."""

    code: str
    weight: float
    needles: tuple[str, ...]
    pattern: re.Pattern[str]


# code weight :: needles separated by | :: pattern (none: a needle is enough)
TABLE = r"""
# --- memory: the card's, the host's, the shared one
cuda-oom 3 :: out of memory :: \b(CUDA|HIP|MPS backend|XPU|NPU) out of memory
cuda-oom 3 :: out of memory :: (CUDA error|cuda runtime error \(2\) ?): ?out of memory|CUDA \w+ with error 2:? out of memory|error 2 \(out of memory\)|CUDA failure (\d+ )?'out of memory'
cuda-oom 3 :: cuda_error_out_of_memory|cudaerrormemoryallocation|oom when allocating|out of memory error on gpu :: (CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|OOM when allocating tensor|Out of memory error on GPU)
cuda-oom 3 :: outofmemoryerror :: \btorch\.(cuda\.)?OutOfMemoryError:
cuda-oom 3 :: alloc_failed :: (CUBLAS|CUDNN|CUSOLVER)_STATUS_ALLOC_FAILED
cuda-oom 3 :: dispatched on the cpu :: Some modules are dispatched on the CPU or the disk
cuda-oom 3 :: paged memory|ran out of memory on device|resource_exhausted :: (RESOURCE_EXHAUSTED: Out of memory|ran out of memory on device)
kv-cache 3 :: cache blocks :: No available memory for the cache blocks
kv-cache 3 :: gpu memory utilization :: Free memory on device .{0,120} is less than desired GPU memory utilization
kv-cache 3 :: kv cache :: (maximum number of tokens that can be stored in|is larger than the available|larger than the maximum .{0,60}) ?KV cache
host-ram 3 :: cpuallocator|alloc_cpu :: (CPUAllocator|alloc_cpu)\.?\w*.{0,80}?(can't allocate|not enough) memory|DefaultCPUAllocator: (can't allocate|not enough) memory
host-ram 3 :: cannot allocate memory :: (OSError|Errno 12).{0,20}Cannot allocate memory
host-ram 3 :: memoryerror|bad_alloc :: (^|\s)(numpy\.\S*)?_?(Array)?MemoryError\b|std::bad_alloc
host-ram 3 :: unable to allocate :: Unable to allocate [\d.]+ [KMGTP]i?B for an array
host-ram 3 :: memory limit|ray's memory :: OutOfMemoryError: Task was killed due to the node running low on memory
host-ram-kill 3 :: oom killer|oom-killer|out of memory: kill :: (invoked oom-killer|killed by (the )?(kernel'?s? )?OOM.killer|Out of memory: Kill(ed)? process)
host-ram-kill 2.5 :: sigkill|return code|exitcode|exit code|error code|killed|signal 9 :: (died with <Signals\.SIGKILL|return code = -9\b|exit ?code:? ?-9\b|exit ?code:? 137\b|error code -9\b|Signal 9 \(SIGKILL\)|SIGKILL\(-9\)|killed by signal: Killed)
host-ram-kill 2.5 :: killed :: ^[^\n]{0,80}?(: line \d+: +\d+ )?\bKilled\b[ *]{0,40}($|python|torchrun|accelerate|deepspeed|bash)
cgroup-kill 3 :: oom-kill|oom_kill|oom kill|oomkilled|memory cgroup|out-of-memory :: (Detected \d+ oom.kill|OOM Killed|OOMKilled|Memory cgroup out of memory|cgroup out-of-memory handler)
cgroup-kill 3 :: memory limit :: Exceeded (job|step) memory limit|exceeded memory limit .{0,40}being killed|TERM_MEMLIMIT
shared-memory 3 :: bus error :: (killed by signal: Bus error|Unexpected bus error encountered in worker)
shared-memory 3 :: shared memory :: (out of|insufficient) shared memory

cuda-oom 3 :: out of memory|outofmemory :: (HIP error: out of memory|hipErrorOutOfMemory|out of memory trying to allocate|cuMem(Alloc|Create)\w* failed[^\n]{0,60}out of memory)
host-ram 3 :: paging file|fork: :: (paging file is too small|WinError 1455|fork: (retry: )?(Resource temporarily unavailable|Cannot allocate memory))
shared-memory 3 :: shared memory object|/dev/shm :: (unable to open shared memory object|(No space left|insufficient|not enough)[^\n]{0,80}/dev/shm)
host-ram-kill 1.5 :: killed :: \b(process(es)?|training|script|program|python|job|run|code|it|task|session|kernel)\b[^\n]{0,60}[\s"'](killed|Killed)\b(?! by (user|signal|the user|hand))|(get|gets|got|getting|being|been|be|says?|outputs?|message|prints?) (just )?["'`]?killed\b
host-ram-kill 1.6 :: insufficient memory|not enough memory|out of ram|enough ram|ram and swap|run out of memory|runs out of memory|running out of memory :: (insufficient (system |host )?memory|not enough (system |host )?(memory|RAM)|(run|runs|ran|running) out of (RAM|memory|system memory)|ram (memory )?and swap)
cuda-oom 1.7 :: gpu memory|vram|memory of the gpu :: ((out of|insufficient|not enough|run out of) (gpu|cuda|video) memory|(out of|not enough|insufficient) vram)
# --- imports
name-missing 3 :: cannot import name :: cannot import named? [\"'`‘]?(?P<name>\w+)
name-missing 3 :: importerror: attempted|unknown location|circular import :: (attempted relative import|partially initialized module)
no-module 3 :: no module :: No module name[d]? [\"'`‘]?(?P<name>[\w.\-]+)
package-missing 3 :: package metadata|distribution was not found|packagenotfound :: (No package metadata was found for|PackageNotFoundError:( The)?) ["'`]?(?P<name>[\w.\-]+)
package-missing 3 :: pip install :: (Import|ModuleNotFound|Runtime|Value)Error: [^\n]{0,200}?(?P<name>[\w.\-]*)[\"'`]? ?(is|are|was) (not (available|installed|found)|available\. Try)[^\n]{0,200}?(pip3? install|install it)
package-missing 3 :: requires accelerate :: requires (?P<name>Accelerate)\b(?! ?[<>=!~])
package-missing 3 :: not found in your environment|it was not found|is not installed|but it is not installed :: (requires|required) (the )?(?P<name>[\w.\-]+)[^\n]{0,80}(was not found in your environment|is not installed)
package-missing 3 :: is not available|has been toggled on|package flash_attn :: (FlashAttention2 has been toggled on, but it cannot be used[^\n]{0,120}|Error: (?P<name>[\w.\-]+) is not available)

# --- arguments
unknown-argument 3 :: unexpected keyword :: unexpected keyword argument {ARGUMENT}
unknown-argument 3 :: unrecognized arguments|not used by the hfargumentparser :: (unrecognized arguments: |not used by the HfArgumentParser: \[')(?P<name>[\w\-]+)
unknown-argument 3 :: multiple values for|required positional|required keyword :: (multiple values for (keyword )?argument|missing \d+ required (positional|keyword-only) arguments?:?) {ARGUMENT}
unknown-argument 3 :: not a valid :: (?P<name>\S+) is not a valid (IntervalStrategy|OptimizerNames|SchedulerType|HubStrategy|SaveStrategy)
unknown-argument 3 :: some keys are not used|extra inputs are not permitted|invalid choice :: (Some keys are not used by the HfArgumentParser|Extra inputs are not permitted|argument \S+: invalid choice)
fp16-on-cpu 3 :: mixed precision|fp16 evaluation|half precision :: (fp16|bf16|fp8) mixed precision requires|(fp16|bf16|half)[^\n]{0,120}can only be used (on|with) (a )?CUDA|Mixed precision training with AMP[^\n]{0,160}CUDA devices
fp16-on-cpu 3 :: for 'half'|setup doesn't support bf16|not implemented for :: not implemented for 'Half'|Your setup doesn't support bf16/gpu
invalid-value 3 :: divisible by :: must be (evenly )?divisible by
invalid-value 3 :: strategy to match|requires the save|load_best_model_at_end :: requires the save and eval(uation)? (strategy|steps) to (match|be)|load_best_model_at_end requires
invalid-value 3 :: is not equal to micro_batch|train_batch_size is not|mutually exclusive|not allowed with argument :: (train_batch_size is not equal to|mutually exclusive|not allowed with argument|Target modules .{0,200}not found in the base model)
invalid-value 3 :: target modules|deepspeed config|invalidly configured :: (Target modules .{0,200}not found in the base model|Please correct the following DeepSpeed config values)

unknown-argument 3 :: arguments are required|is not in struct|mandatory value|positional argument :: (the following arguments are required:|Key [\"']?(?P<name>[\w.]+)[\"']? is not in struct|Missing mandatory value|takes (from )?\d+ (to \d+ )?positional arguments? but \d+ (was|were) given)
invalid-value 2.6 :: validation error :: \d+ validation errors? for \w+
invalid-value 2 :: misconfigurationexception :: MisconfigurationException:
invalid-value 3 :: at most one of|specify target_modules|is not supported. currently|purely quantized|max_steps must|only supports ampere|cannot be used together|can't be used together :: (At most one of fp16 and bf16|specify (the )?`?target_modules`?|Target module .{0,300} is not supported|fine-tuning on purely quantized models|max_steps must be set to a positive value|FlashAttention only supports Ampere|(cannot|can't) be used together)
# --- data
missing-column 3 :: column :: (Column to remove|Column name) \[?{QUOTED}\]? not in the dataset|columns? \[?["'][^\n]{0,140}(not found|does not exist|not in the dataset|don't exist)
missing-column 3 :: no columns in the dataset|no columns match :: No columns in the dataset match the model's forward method|missing the following columns
missing-column 3 :: batch received was empty|did not return a loss :: (The batch received was empty, your model won't be able to train|model did not return a loss from the inputs)
missing-column 3 :: does not fit :: does not fit (sft|dpo|grpo|reward|causal-lm):
missing-column 3 :: keyerror :: KeyError: ?[\"'](?P<name>text|texts|prompts?|messages?|conversations?|chosen|rejected|completions?|instruction|inputs?|input_ids|labels?|output|outputs|response|responses|answers?|questions?|content|role|from|value|train|validation|test|image|images|audio|label_ids|attention_mask|solution|problem|system|query|sentence\w*|target|source|human|gpt|user|assistant|tokens|words|document|summary|title|context|score|id)[\"']
missing-column 2.6 :: keyerror :: (datasets/(formatting|arrow_dataset|iterable_dataset)|(sft|dpo|grpo|reward|kto)_trainer|data_collator|data_utils)\S*\.py\b[^\0]{0,380}?KeyError: ?["'](?P<name>[^"'\n]+)["']
column-cast 3 :: same columns|couldn't cast|column names don't match|casterror|castexception :: (must have the same columns|Couldn't cast\b|because column names don't match|DatasetGenerationCastError)
column-cast 3 :: arrowinvalid|arrowtype|json parse error :: (ArrowInvalid|ArrowTypeError|JSON parse error)
column-cast 1.5 :: while generating the dataset :: An error occurred while generating the dataset
chat-roles 3 :: undefinederror|jinja|' has no attribute ' :: (UndefinedError|(applying|rendering|render) (the )?(jinja )?chat template|[\"'](dict|list|str|int|none) object[\"']? has no attribute)
chat-roles 3 :: roles must alternate|templateerror|role must be|system role not :: (roles must alternate|jinja2?\.exceptions\.\w*Error|TemplateError:|System role not supported)
no-chat-template 3 :: chat template|chat_template :: (chat_template is (not set|null|None)|No chat template is set|does not have a chat template|no chat template (is )?(defined|found))
ragged-rows 3 :: unable to create tensor|excessive nesting|expected sequence of length|too many dimensions :: (Unable to create tensor|excessive nesting|expected sequence of length \d+ at dim|too many dimensions 'str')
ragged-rows 3 :: stack expects|inhomogeneous :: (stack expects each tensor to be equal size|setting an array element with a sequence)
no-pad-token 3 :: padding token|pad token|pad_token :: (Asking to pad but the tokenizer does not have a padding token|Cannot handle batch sizes > 1 if no padding token)
data-missing 1.5 :: stopiteration :: ^(\[\w+\]:?)? ?StopIteration ?$
wrong-type 3 :: 'endswith'|text input must be|textencodeinput|textinputsequence :: ('(NoneType|int|float|list)' object has no attribute 'endswith'|text input must be of type|TextEncodeInput must be|TextInputSequence must be)
wrong-type 2 :: 'list' object has no :: AttributeError: 'list' object has no attribute 'shape'
data-missing 3 :: couldn't find|doesn't contain any data|dataset is empty|num_samples should|datasetnotfound|no examples :: (Couldn't find (a dataset script|any data file)|doesn't contain any data files|num_samples should be a positive integer value, but got num_samples=0|DatasetNotFoundError|Unable to find .{0,160} (data ?files|with any supported extension)|EmptyDatasetError)

missing-column 3 :: not in index|are in the [|unknown split|corresponds to no data|builderconfig|config name is missing :: (KeyError: [^\n]{0,200}(not in index|are in the \[)|Unknown split \"?\w+|Instruction \"\w+\" corresponds to no data|BuilderConfig '?\S+ not found|Config name is missing)
column-cast 3 :: can't be aligned|error tokenizing data :: (features can't be aligned|Error tokenizing data)
column-cast 2 :: jsondecodeerror|unicodedecodeerror :: (JSONDecodeError: |UnicodeDecodeError: )
wrong-type 2 :: string indices|identify image|image file is truncated|is out of bounds|to match target batch_size|must be str, not :: (string indices must be integers|cannot identify image file|image file is truncated|IndexError: Target -?\d+ is out of bounds|Expected input batch_size \(\d+\) to match target batch_size|sequence item \d+: expected str instance)
data-missing 2.2 :: no such file :: (FileNotFoundError|No such file or directory)[^\n]{0,200}\.(jsonl?|csv|tsv|parquet|arrow|txt|npy|npz|h5|hdf5|lmdb|jpe?g|png|wav|flac|mp4|zip|tar|gz|tfrecord\w*|xml|bin\.idx)\b
wrong-type 2 :: should be a string|input is not valid|expected string or bytes|must be a string :: (Input is not valid\. Should be a string|expected string or bytes-like|must be (a )?(string|str|List\[str\])\b[^\n]{0,40}(got|not))
missing-column 2 :: keyerror in :: KeyError in ([\w./]*(dataset|data|preprocess|collat|json|loader)[\w./]*|DataLoader worker)
missing-column 1.6 :: keyerror :: (dataset|preprocess|annotation|csv|json|column)[^\n]{0,80}KeyError: +["'][^"'\n]+["']
# --- who may
gated-repo 3.1 :: gated repo|is restricted|gatedrepo :: (access (a )?gated repo|GatedRepoError|Access to (model|dataset) (?P<name>\S+) is restricted)
push-refused 3 :: forbidden|write access|write token|push was rejected|403 client :: (403 (Client Error|Forbidden)|403 Client Error: Forbidden|DENIED update|you must use a write token|don't have the rights to create|Your push was rejected|not authorized to push)
token-missing 3 :: token :: (Token must be specified|LocalTokenNotFound|Token is required|no token found|Repository Not Found for url[^\n]{0,200}authenticated)
token-missing 3 :: 401 :: 401 (Client Error|Unauthorized)|RepositoryNotFoundError: 401|status(_code)?\W{1,4}401
token-missing 3 :: listed on|private repository :: is not a local folder and is not a valid model identifier[^\n]{0,200}
token-missing 3 :: could not read username|authentication failed|permission denied (publickey :: (could not read Username|Authentication failed for|Permission denied \(publickey)
token-missing 3 :: unable to locate credentials|accessdenied|no credentials :: (Unable to locate credentials|AccessDenied|could not automatically determine credentials|DefaultCredentialsError)
token-invalid 3.05 :: invalid :: (Invalid user token|Invalid username or password|invalid api key|token is invalid|Invalid credentials in Authorization)
tracker-unreachable 3.05 :: run initialization has timed out|wandb|commerror|comet|mlflow :: (Run initialization has timed out|wandb\S*: (ERROR )?(Error while calling W&B API|Network error)|wandb\S*\.CommError|Error communicating with wandb process|(Could not|Failed to|Unable to) (connect|reach) [^\n]{0,40}(wandb|mlflow|comet|tracking server))
tracker-key 3.1 :: api_key not configured|wandb login|api key must be :: (api_key not configured|API key must be \d+ characters|wandb: ERROR .{0,80}(login|api.key|permission))

token-missing 3 :: huggingface-cli login|hf auth login|kaggle.json :: ((pass|provide)[^\n]{0,60}token[^\n]{0,80}(huggingface-cli|hf auth) login|Could not find kaggle\.json)
token-invalid 3.05 :: incorrect api key|expiredtoken|token has expired|authenticationerror :: (Incorrect API key provided|ExpiredToken|token has expired|\w+\.AuthenticationError: )
tracker-key 3.1 :: wandb|not logged in|api key verification :: (wandb[^\n]{0,120}(permission|not logged in|Error 40[134]|\b40[134] )|API key verification failed|wandb\S*\.AuthenticationError)
# --- what there is
rate-limited 3 :: 429|too many requests|rate limit :: (429 (Client Error|Too Many|\{)|Too Many Requests|status(_code)?\W{0,3} ?429|rate.?limit(ed)? (exceeded|reached)|hit (the )?rate limit)
capacity 3 :: resourcelimitexceeded|insufficientinstancecapacity|vcpulimit|capacity|exceed quota|quota :: (ResourceLimitExceeded|Insufficient\w*Capacity|VcpuLimitExceeded|MaxSpotInstanceCountExceeded|ZONE_RESOURCE_POOL_EXHAUSTED|exceed quota limits?|quota (metrics? )?exceed|exceeded your (current |GPU )?quota|QUOTA_EXCEEDED|Quota '\S+' exceeded|not have enough (resources|capacity))
capacity 3 :: qosmax|qosgrp|assocgrp|requested node configuration|unable to allocate resources|batch job submission failed :: (QOS\w*(Limit|PerUser\w*)|AssocGrp\w+|Requested node configuration is not available|Unable to allocate resources|Batch job submission failed)
capacity 3 :: payment required|unschedulable|insufficient nvidia :: (402 (Client Error|Payment Required)|Insufficient nvidia\.com/gpu|FailedScheduling)
capacity 3 :: cannot connect to gpu backend|gpu usage limits :: (Cannot connect to GPU backend|due to usage limits in Colab)
capacity 3.05 :: resource_exhausted|exceeds the allowed|quota failure|gpu quota|gpu capacity|quota for :: (status\W{1,4}RESOURCE_EXHAUSTED|exceeds the allowed maximum|Quota failure|\b(gpu|gpus|accelerator) (quota|capacity)\b|(insufficient|no|exceeded|not enough|out of) [^\n]{0,20}quota\b)
capacity 3 :: nodes are available|gres|placement group|provision all|launchable|available gpus|resource request|account/partition|pending ( :: (0/\d+ nodes are available|Invalid generic resource \(gres\)|Invalid account or account/partition|Failed to provision all possible|required GPUs exceeds|[Tt]otal available GPUs [\d.]+ is less than|No available node types can fulfill|ResourcesUnavailableError|placement group[^\n]{0,80}(timed out|cannot be|not available))
no-gpu 2 :: is_available :: (is_available\(\)\W{0,4} (is|was|returned|returns|returning|return|gives|=|==|:)? ?`?False|assert ?\(?torch\.cuda\.is_available)
no-gpu 3 :: gpu backend|your machine only has|torch accelerator|deserialize object on cuda|cudaerrornodevice|cuda is not available|cuda not available :: (No supported gpu backend found|But your machine only has: ?\[|cannot find any torch accelerator|deserialize object on CUDA device \d+ but|cudaErrorNoDevice|(Error|Exception|Assert)[^\n]{0,80}CUDA (is )?not available)
gpu-busy 3 :: cudaerrordevicesunavailable|error=46|cuda_error_device_unavailable :: (cudaErrorDevicesUnavailable|error=46|CUDA_ERROR_DEVICE_UNAVAILABLE)
no-gpu 3 :: no cuda gpus|no nvidia driver|no gpu :: (No CUDA GPUs are available|Found no NVIDIA driver|no CUDA-capable device is detected|No GPU (found|detected|available)\b)
no-gpu 3 :: driver initialization|initialize nvml|cuinit|cuda_error_no_device|cuda_error_not_initialized|no cuda runtime|nvidia-smi has failed|initialization error|cuda unknown error|deserialize object on a cuda :: (CUDA driver initialization failed|Can't initialize NVML|Failed to initialize NVML: (Unknown|Not Found|GPU|Insufficient)|failed call to cuInit|CUDA_ERROR_(NO_DEVICE|NOT_INITIALIZED)|No CUDA runtime is found|NVIDIA-SMI has failed|CUDA error(: | \(3\): )initialization error|CUDA unknown error - this may be|deserialize object on a CUDA device but)
no-gpu 3 :: invalid device ordinal|not compiled with cuda|cuda-capable device :: (invalid device ordinal|Torch not compiled with CUDA enabled|no CUDA-capable device is detected|torch\.cuda\.is_available\(\) (is|returned) False)
gpu-busy 3 :: busy or unavailable :: CUDA-capable device(\(?s\)?)? (is/are|are|is) busy or unavailable
gpu-fault 3.3 :: uncorrectable ecc|xid|fallen off the bus|gpu is lost|device handle for gpu :: (uncorrectable (NVLink |ECC )error|Xid \(PCI|fallen off the bus|GPU is lost|Unable to determine the device handle for GPU|unspecified launch failure.{0,40}ECC)
disk-full 3.1 :: no space left|disk quota|errno 28|storagefull|enospc|not enough space|not enough disk :: (No space left on device|Disk quota exceeded|Errno (28|122)\]|StorageFull|ENOSPC|[Nn]ot enough (free )?(disk )?space|database or disk is full)
disk-full 3 :: inline_container|streamwriter :: (PytorchStreamWriter failed writing|inline_container\S* ?\. ?unexpected pos \d+)
preempted 3.2 :: preempt|evicted :: (gets?|got) ["'`]?(preempted|preemption|pre-empted)\b|\b(is|was|been|gets|being) evicted (from|by)|pre-empted by
preempted 3.2 :: preempt|reclaimed|evicted|spot :: (\b(job|instance|vm|node|machine|task|pod|host|server|allocation|cluster)s?\b[^\n]{0,40}\b(was|were|is|has been|have been|being|got|will be|about to be) (being )?(preempted|reclaimed|evicted)|preemption (notice|signal|warning|event|detected)|due to preemption|(state|reason|status)\W{1,3}preempt|SIGTERM[^\n]{0,40}preempt|preempt[^\n]{0,40}SIGTERM|spot (instance|VM|node)s?[^\n]{0,60}(interrupt|reclaim|terminat|evict))
preempted 3 :: preempt|spot instance|due to node failure|reclaimed :: (CANCELLED AT \S+ DUE TO PREEMPTION|DUE TO NODE FAILURE|(job|instance|VM|node) (was|has been) (preempted|reclaimed)|Spot (instance )?interruption|BidEvictedEvent|instance-action.{0,40}terminate)

# --- builds
wheel-build 3.2 :: subprocess-exited|building wheel|build wheel|failed to build|metadata-generation|could not build wheels|build backend|metadata (setup :: (error: subprocess-exited-with-error|Failed building wheel for (?P<name>\S+)|Getting requirements to build wheel did not run|Failed to build [`'\"]?\S+|metadata-generation-failed|Could not build wheels for|build backend returned an error)
wheel-build 2.5 :: pip-install-|pip-req-build-|pip-build-env :: File "?\S*(pip-install-|pip-req-build-|pip-build-env)[^\n]*(setup\.py|build_meta)
wheel-build 3.2 :: command '|setup.py install|gcc' failed|egg_info|g++' failed|cl.exe' failed :: (command '\S*(gcc|g\+\+|nvcc|cl\.exe|cc|clang)\S*' failed|python setup\.py \S+ did not run successfully|setup\.py egg_info\"? failed)
extension-build 3.1 :: error building extension|ninja|jit_load|cpp_extension :: (Error building extension '(?P<name>\w+)'|ninja: build stopped|\['ninja', '-v'[^\]]*\]|_run_ninja_build|Ninja is required to load C\+\+ extensions|Unable to JIT load the)
extension-build 1.5 :: building extension module :: Building extension module (?P<name>\w+)\.\.\.
no-compiler 3.1 :: cuda_home|nvcc|cudamismatch|install root :: (CUDA_HOME environment variable is not set|CUDA_HOME does not exist|CUDAMismatchException|nvcc(\.exe)?:? (fatal|was not found|not found|: command not found)|Installed CUDA version .{0,40} does not match the version torch was compiled|detected CUDA version .{0,60} mismatches the version)
no-compiler 3.1 :: nvcc|no such file or directory :: No such file or directory: ['"]?[^\n'"]*\b(nvcc|gcc|g\+\+|ninja|cl\.exe)\b
no-compiler 3.1 :: unsupported gnu version|crt/host_config|failed to find c compiler|unable to find vcvarsall|microsoft visual c++ :: (unsupported GNU version|Failed to find C compiler|Unable to find vcvarsall|Microsoft Visual C\+\+ [\d.]+ or greater is required)

no-compiler 3.1 :: rust compiler|cmake must|'which', 'g++'|cmake: command|cmake is not|no cmake :: (can't find Rust compiler|CMake must be installed|'which', '(g\+\+|nvcc|gcc)'|cmake: (command )?not found|[Cc]ould not find (a )?(CMake|compiler|nvcc))
extension-build 3.1 :: error compiling objects|fatal error:|ninja: error|compilation terminated :: (Error compiling objects for extension|fatal error: \S+\.(h|hpp|cuh): No such file|ninja: error|compilation terminated\.)
# --- time
time-limit 3 :: time limit|wallclock|walltime|run time limit|maximum execution time|maxruntime|runlimit :: (DUE TO TIME ?LIMIT|exceeded (the )?(job )?(wall ?clock|wall ?time|time|run ?time) limit|walltime \d+ exceeded limit|TERM_RUNLIMIT|run time limit|exceeded the maximum execution time|MaxRuntimeExceeded|MaxWaitTimeExceeded|exceeded its (maximum|configured) (run ?time|timeout)|DeadlineExceeded)
time-limit 1.5 :: times out|timed out|timeout :: \b([Jj]ob|run|training|task|step)\b[^\n]{0,30}\b(times?d? out|hit the timeout|timeout)( (after|at) ?\d*|\b)
network-timeout 3 :: read timed out|readtimeout|connecttimeout|connect timeout|timeouterror: [errno 110]|operation timed out|gateway :: (Read timed out|ReadTimeout(Error)?\b|Connect ?Timeout(Error)?\b|\[Errno 110\]|connection timed out|504 (Server|Gateway)|ServerTimeoutError|The (read|write) operation timed out)
network-timeout 2.6 :: timeouterror: timed out|socket.timeout|handshake operation|fstimeouterror :: (TimeoutError: timed out|socket\.timeout: |handshake operation timed out|FSTimeoutError)
time-limit 2 :: timeoutexpired|celltimeout :: (TimeoutExpired: |CellTimeoutError)
rendezvous-timeout 2.6 :: connect() timed out|socket timeout|dist :: (connect\(\) timed out|Socket Timeout\b|DistStoreError: (Timed out|wait timeout))
nccl-timeout 2.3 :: nccl operations have failed|timeout at nccl :: (Some NCCL operations have failed or timed out|Timeout at NCCL work)
nccl-timeout 2.3 :: timed out waiting :: Timed out waiting \d+ ?ms for (recv|send|all\w*)
rendezvous-timeout 2.6 :: socket has timed out|rendezvoustimeout|rendezvousclosed|waiting for clients|timed out after :: (client socket has timed out|RendezvousTimeoutError|RendezvousClosedError|Timed out after \d+ seconds waiting for clients|Timed out waiting for clients|wait timeout after \d+ms, keys)

# --- versions
resolver 3 :: resolutionimpossible|conflicting dependencies|no solution found|conflict is caused by|dependency conflict|conflicting dependency :: (ResolutionImpossible|conflicting dependenc(ies|y)|No solution found when resolving|The conflict is caused by|UnsatisfiableError|could not find a version that satisfies|ResolvePackageNotFound)
resolver 3 :: could not find a version|no matching distribution|requires a different python|requires-python :: (Could not find a version that satisfies the requirement|No matching distribution found|requires a different Python)
incompatible-versions 3 :: which is incompatible|normal functioning|versionconflict|is incompatible with|requires transformers|but found :: (but you('ll)? have \S+ [^\n]{0,60}which is incompatible|is required for a normal functioning|VersionConflict|following dependency conflicts|requires \S+ ?[<>=!~]=?[^\n]{1,40}but (found|you have|got|the installed))
incompatible-versions 3 :: does not recognize this architecture|requires a minimum version|please upgrade|please update :: (does not recognize this architecture|requires a minimum version of|This example requires a source install|Please (upgrade|update) (your )?(transformers|torch|trl|peft|accelerate|datasets)\b)
binary-mismatch 3.1 :: undefined symbol|size changed|numpy 1.x cannot|multiarray failed|_array_api not found|abi|dll load failed :: (undefined symbol|(dtype|ndarray|ufunc) size changed|compiled using NumPy 1\.x cannot be run|numpy\.core\.multiarray failed to import|_ARRAY_API not found|compiled against (API|ABI) version|DLL load failed)
binary-mismatch 3.1 :: cuda setup|libbitsandbytes|cget_managed_ptr|cadam32bit|cquantize|compiled without gpu :: (CUDA[ _]SETUP failed despite|CUDA SETUP: (Problem|ERROR|Required library version not found|CUDA detection failed)|libbitsandbytes\w*\.so:|has no attribute 'c(get_managed_ptr|adam32bit\w*|quantize\w*|dequantize\w*)|compiled without GPU support)
binary-mismatch 3.1 :: kernel image is invalid|no binary for gpu|unsupported toolchain :: (device kernel image is invalid|no binary for gpu|PTX was compiled with an unsupported toolchain)
binary-mismatch 3.1 :: no kernel image|cannot open shared object|glibc|cxxabi :: (no kernel image is available|cannot open shared object file|version `?(GLIBC|CXXABI)\S+ not found|operator torchvision::nms does not exist)
dataset-script-removed 3.1 :: dataset scripts are no longer|trust_remote_code` is not supported :: Dataset scripts are no longer supported|`trust_remote_code` is not supported anymore
api-removed 3 :: has no attribute :: module [\"'](?P<name>[\w.]+[\"'] has no attribute [\"']\w+)[\"']
driver-too-old 3 :: driver :: (NVIDIA driver on your system is too old|CUDA driver version is insufficient|driver/library version mismatch|forward compatibility was attempted)

driver-too-old 3 :: cudaerrorinsufficient :: cudaErrorInsufficientDriver
binary-mismatch 3.1 :: undefined%20symbol :: undefined%20symbol
binary-mismatch 3.1 :: cudaerrornokernel|symbol lookup|not defined in file|numpy is not available|version_mismatch|not compatible with the current pytorch|no operator found|can't load c++|named symbol not found|symbol not found :: (cudaErrorNoKernelImage|symbol lookup error|version \S+ not defined in file|Numpy is not available|CUDNN_STATUS_\w*VERSION_MISMATCH|is not compatible with the current PyTorch installation|No operator found for .memory_efficient|can't load C\+\+/CUDA extensions|named symbol not found|symbol not found in flat namespace)
incompatible-versions 3.05 :: weights only load failed :: Weights only load failed
incompatible-versions 3 :: unrecognized configuration class|unrecognized model in|tokenizer class|untagged enum|can only be an entire path|localfilesystem|pickle protocol|is required but found|requires pytorch|requires python|requires torch|requires cuda|minimum supported :: (Unrecognized configuration class|Unrecognized model in|Tokenizer class \S+ does not exist|did not match any variant of untagged enum|'\*\*' can only be an entire path component|cached in a LocalFileSystem is not supported|unsupported pickle protocol|requires (PyTorch|Python|torch|CUDA) ?(version )?[<>=!~]+ ?v?[\d.]+)
incompatible-versions 2 :: is not subscriptable|unsupported operand :: ('(type|ABCMeta)' object is not subscriptable|unsupported operand type\(s\) for \|: )
api-removed 2.2 :: type object|deprecated alias|removed in|removed from|no longer supported :: (type object '(?P<name>\w+' has no attribute '\w+)'|was a deprecated alias|(was|were|has been|have been|is|are) removed (in|from|since) )
# --- standing still
eval-without-data 3 :: eval_dataset|eval dataset|evaluation requires :: (evaluation re[qg]uires an eval.dataset|didn't pass an `?eval_dataset|requires an? `?eval_dataset)
nccl-timeout 2.3 :: collective operation timeout|worknccl|ncclcommwatchdog|collective operation|monitoredbarrier|heartbeat :: (Watchdog caught collective operation timeout|WorkNCCL.{0,200}ran for \d+|WorkNCCL::checkTimeout|raised from ncclCommWatchdog|Some NCCL operations have failed or timed out|monitoredBarrier.{0,80}(timed out|failed)|HeartbeatMonitor.{0,120}(timeout|stuck)|Watchdog got stuck)
terminated 1 :: killed by signal :: killed by signal: (Terminated|Hangup|Interrupt)
stopped 1 :: keyboardinterrupt :: ^\W*KeyboardInterrupt\W*$
already-running 2.5 :: one job at a time|already_running|already running :: (trains \S+ right now; one job at a time|\balready_running\b|(run|job|executor|training) \S* ?is already running)
not-started 1.6 :: command not found|permission denied|not found :: (^[^\n]{0,80}: )?[\w./\-]+: (command not found|not found)$|cannot execute binary file|exec format error
stuck 1.5 :: stuck|hang|hung|freez|froze|no progress|deadlock|proceed|still 0%|nothing happens|doesn't advance|unresponsive :: (\b(is |got |gets |get |are |was |still |just |keeps? )?(stuck|stucks|hangs|hanging|hung|freezes?|froze|freezing|(?<!<)frozen|deadlock(ed|s)?|hang)\b(?! to cause| the| (all |of )?(layers?|backbone|encoder|decoder|model|weights?|parameters?|params|bn|batch))|doesn't (proceed|advance|progress)|training is still 0%|nothing happens|no progress)

# --- numbers that are none
nan-loss 2.5 :: nan :: (loss|grad[_ \-]?norm|gnorm|reward\w*|logps|ppl|kl|perplexity)[\"']?\w*(/\w+)?( (train|val|valid|eval|test|avg|total|mean)\w*)?[\"'\)\]]? ?[:=] ?[\"']?(tensor\()?-?nan\b|^\W*tensor\(nan\b|loss_?\w* +nan\b|\b(validation |average |train(ing)? )?loss (is |was |of |as |value is |=+ ?|nan\W+)?['"]?nan\b(?!_)
nan-loss 3 :: nan :: (Error|Exception):? [^\n]{0,80}(\bnan (in )?(loss|gradients?|weights?)|(loss|gradients?|weights?|grad_norm) (is|are|was|became|contains?|has) ?(a )?(nan|not finite|infinite))|Loss is nan, stopping|NaN detected|Input contains NaN
nan-loss 1.5 :: nan :: (\bnan\b[^\n]{0,20}\b(loss|grad)|\bloss\b[^\n]{0,40}\b(becom(e|es|ing)|became|goes|going|turn(s|ed|ing)?|went|are|is|to|was|gets?|got) (to |into )?nan\b|\bnan loss|the nan will occur|NaN or Inf found in input tensor)
nan-loss 1.5 :: diverge|explod :: \b(loss|training|gradients?) (diverge[sd]?|explode[sd]?|blew up)
loss-scale-floor 3 :: loss scale :: (loss scale already at minimum|Minimum loss scale reached)
nan-probabilities 2.5 :: probability tensor|invalid values|expected parameter :: (probability tensor contains|Expected parameter \w+ .{0,160}found invalid values)
nan-backward 3 :: nan values :: (Function|function) [\"'`]?\w*[Bb]ackward\w*[\"'`]? returned nan values

nan-loss 3 :: infinite or nan|training has diverged|non-finite|diverged with|invalid loss|loss is inf|contain inf :: (Loss became infinite or NaN|[Tt]raining has diverged|[Nn]on-?finite (loss|grad)|diverged with loss|Invalid loss, terminating|\b[Ll]oss is inf)
# --- what no category mends
corrupt-checkpoint 3 :: streamreader|central directory|deserializing header|headertoolarge|invalid load key|unexpected eof|unpicklingerror|not a zip|ran out of input|invalidheader|metadataincomplete :: (PytorchStreamReader failed|failed finding central directory|Error while deserializing header|HeaderTooLarge|InvalidHeader|MetadataIncomplete|invalid load key|UnpicklingError|File is not a zip file|BadZipFile|EOFError: Ran out of input|unexpected EOF)
device-assert 2.5 :: device-side assert :: device-side assert(?!ion)
illegal-access 2.5 :: cuda_error_illegal|cudaerrorillegal :: (CUDA_ERROR_ILLEGAL_(ADDRESS|INSTRUCTION)|cudaErrorIllegal\w+)
cuda-error 2.1 :: cuda runtime error|cublas runtime error|thcudacheck|unspecified launch :: ((cuda|cublas|cudnn|cusparse) runtime error|THCudaCheck FAIL|unspecified launch failure)
cuda-error 2.1 :: _status_|cuda error|cudnn error|cuda_error_|cudnn failure|cublas failure|cufft error|cudaerror|cuda failure|cusolver error :: ((CUBLAS|CUDNN|CUSOLVER|CUSPARSE|CUFFT)_STATUS_(?!SUCCESS|ALLOC)\w+|(CUDA|cuDNN|cuFFT|cusolver) error:|CUDA_ERROR_\w+|cuDNN failure|\bcudaError\w+|CUDA failure)
illegal-access 2.5 :: illegal memory access|illegal instruction|misaligned address :: (an illegal memory access was encountered|illegal instruction was encountered|misaligned address)
nccl-error 2.2 :: ncclsystemerror|ncclinternalerror|nccl error|ncclunhandled|ncclremoteerror|ncclinvalidusage :: (nccl(System|Internal|UnhandledCuda|Remote|InvalidUsage|Invalid)\w*Error|ncclInvalidUsage|NCCL [Ee]rror)
segfault 2 :: segmentation fault|sigsegv|return code = -11|exitcode: -11 :: (Segmentation fault|SIGSEGV|return code = -11|exitcode ?: -11)
nccl-error 1 :: communicator was aborted|nccl communicator :: NCCL communicator (was|has been) aborted
terminated 1 :: sigterm|sighup|signal: 15|signal 15|return code = -15|terminated :: (SIGTERM|SIGHUP|got signal: \d+|Signal 15|return code = -15|\bTerminated$)
network 2.4 :: connection broken|incompleteread|name resolution|getaddrinfo|failed to resolve|name or service|network is unreachable|max retries exceeded|couldn't connect to|couldn't reach|connection refused|connection reset|connectionerror|connection aborted|remotedisconnected|no route to host|offline mode|ssl: :: (Connection broken|IncompleteRead|name resolution|getaddrinfo failed|Failed to resolve|Name or service not known|Network is unreachable|Max retries exceeded|[Cc]ouldn't (connect to|reach)|Connection (refused|reset by peer|aborted)|(requests\.exceptions\.)?ConnectionError:|RemoteDisconnected|No route to host|outgoing traffic has been disabled|OfflineModeIsEnabled|LocalEntryNotFoundError|SSL: \w+)
network 2.4 :: proxyerror|certificate_verify|sslerror|server error|bad gateway|service unavailable|unable to access|protocolerror :: (ProxyError|CERTIFICATE_VERIFY_FAILED|SSLError|50[023] Server Error|Bad Gateway|Service Unavailable|fatal: unable to access|ProtocolError\()
port-in-use 3 :: distributed communication on port :: launch distributed communication on port
no-gradient 2.5 :: empty parameter list :: optimizer got an empty parameter list
port-in-use 3 :: address already|eaddrinuse|failed to bind|failed to listen :: (Address already in use|EADDRINUSE|server socket has failed to (listen|bind))
device-mismatch 3 :: on the same device :: Expected all tensors to be on the same device|tensors? (should|must) be on the same device
tokenizer-mismatch 3 :: size mismatch|trying to set a tensor|ignore_mismatched :: (size mismatch for \S+|Trying to set a tensor of shape)
no-gradient 3 :: does not require grad|attempting to unscale :: does not require grad and does not have a grad_fn|Attempting to unscale FP16 gradients
"""


@cache
def signatures() -> tuple[Signature, ...]:
    """The table, compiled once (some 20 ms)."""
    return tuple(_signature(line) for line in TABLE.splitlines() if line and not line.startswith("#"))


def _signature(line: str) -> Signature:
    label, words, pattern = (part.strip() for part in line.split(" ::"))
    code, weight = label.split()
    needles = tuple(words.split("|"))
    source = pattern or "|".join(re.escape(needle) for needle in needles)
    source = source.replace("{ARGUMENT}", ARGUMENT).replace("{QUOTED}", QUOTED)
    return Signature(code, float(weight), needles, re.compile("".join(_spaced(source)), re.IGNORECASE | re.MULTILINE))


def _spaced(source: str) -> Iterator[str]:
    """`source` with each space as any white space: one in a set or before a quantifier, else one or more."""
    in_set, escaped = False, False
    for position, letter in enumerate(source):
        if letter == " " and not escaped:
            yield r"\s" if in_set or source[position + 1 : position + 2] in {"?", "*", "+", "{"} else r"\s+"
        else:
            yield letter
        in_set = (letter == "[" or in_set) and letter != "]" if not escaped else in_set
        escaped = letter == "\\" and not escaped
