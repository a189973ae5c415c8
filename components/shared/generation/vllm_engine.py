"""vLLM in this process, on GPUs or on a CPU."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.shared.families import Family
from components.shared.generation import GenerationSettings, Prompt, Sampled
from components.shared.generation.quiet import captured_output, environment, no_garbage_collection
from components.shared.generation.requests import check_same_prompt, checked_token_ids, make_response
from components.shared.generation.vllm_times import with_exact_times
from components.shared.policy_inputs import (
    PROCESSOR_KWARGS,
    banned_token_ids,
    eos_token_ids,
    load_processor,
    policy_config,
    policy_family,
    render,
)
from components.shared.schemas import Response

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process: it starts sooner and samples the same tokens every time
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",  # a policy is a local folder
}
_CPU_KV_CACHE_SHARE = 0.25  # of the memory that is free
# A model narrower than this samples about as fast on one thread as on two idle cores; on busy cores two threads wait
# for each other at every layer and are many times slower.
_BATCHED_TOKENS = 4096  # of prompts taken in at a time on a CPU
_ONE_THREAD_WIDTH = 512


class VllmSampler:
    """See `Sampler`. One engine at a time; it restarts for another policy, or for the first prompt with an image."""

    def __init__(self, settings: GenerationSettings) -> None:
        self.startup_seconds = 0.0
        self.versions: dict[str, str] = {}
        self.settings = settings
        self._engine: Any = None
        self._policy: Path | None = None
        self._images = False
        self._torch_threads: Callable[[], None] | None = None  # gives torch its threads back

    def sample(
        self,
        policy: Path,
        prompts: Sequence[Prompt],
        *,
        n: int,
        seeds: Sequence[int],
        temperature: float,
        max_completion_length: int,
    ) -> list[Sampled]:
        """See `Sampler.sample`."""
        if not prompts:
            return []
        began = time.monotonic()
        with no_garbage_collection():
            processor = load_processor(policy)  # the first call imports transformers: part of the start
        expected = checked_token_ids(
            processor,
            prompts,
            n=n,
            seeds=seeds,
            temperature=temperature,
            max_completion_length=max_completion_length,
            max_model_len=self.settings.max_model_len,
        )
        self._start(policy, processor, images=any(prompt.image is not None for prompt in prompts), began=began)
        self._engine.reset_prefix_cache()
        self._engine.reset_mm_cache()
        self._engine.llm_engine.reset_encoder_cache()
        from vllm import SamplingParams

        banned = dict.fromkeys(banned_token_ids(processor), float("-inf"))
        params = [
            SamplingParams(
                n=n,
                seed=seed,  # vLLM samples response i with seed + i
                temperature=temperature,
                max_tokens=max_completion_length,
                stop_token_ids=list(eos_token_ids(processor)),
                logprobs=0,  # of the sampled token alone
                logit_bias=banned,
                detokenize=False,
            )
            for seed in seeds
        ]
        requests = [_request(processor, prompt) for prompt in prompts]
        outputs = self._engine.generate(requests, params, use_tqdm=False)
        sampled = []
        for prompt, seed, ids, output in zip(prompts, seeds, expected, outputs, strict=True):
            check_same_prompt(prompt.key, output.prompt_token_ids, ids)
            sampled.append(Sampled(prompt.key, ids, tuple(_responses(processor, prompt.key, seed, output))))
        return sampled

    def close(self) -> None:
        """See `Sampler.close`."""
        if self._engine is None:
            return
        from vllm.distributed import cleanup_dist_env_and_memory

        with captured_output():
            self._engine.llm_engine.engine_core.shutdown()
            self._engine = self._policy = None
            cleanup_dist_env_and_memory()
        if self._torch_threads is not None:
            self._torch_threads()
        gc.unfreeze()  # the engine is full of cycles, and vLLM froze them
        gc.collect()

    def _start(self, policy: Path, processor: Any, images: bool, began: float) -> None:
        if self._engine is not None and self._policy == policy and (self._images or not images):
            return
        self.close()
        import torch

        on_gpu = torch.cuda.is_available()
        self._images = self._images or images
        self._torch_threads = _thread_restorer()
        with (
            environment(_ENVIRONMENT | ({} if on_gpu else _cpu_environment(self.settings, processor))),
            no_garbage_collection(),
            captured_output() as output,
        ):
            try:
                if "OMP_NUM_THREADS" in os.environ:
                    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"].partition(",")[0]))
                self._engine = _new_engine(policy_family(processor), self._engine_arguments(policy, processor, on_gpu))
            except Exception as error:
                self._torch_threads()
                raise RuntimeError(
                    f"vLLM could not start on {policy}: {error}\n"
                    "Out of memory: lower max_num_seqs or max_model_len, or on a GPU gpu_memory_utilization. Otherwise "
                    "set VLLM_LOGGING_LEVEL=INFO and try again, or set engine to transformers. Its last output:\n"
                    f"{output()}"
                ) from error
        self._policy = policy
        self.startup_seconds += time.monotonic() - began
        self.versions = _versions()

    def _engine_arguments(self, policy: Path, processor: Any, on_gpu: bool) -> dict[str, Any]:
        settings = self.settings
        dtype = settings.dtype if settings.dtype != "auto" else "bfloat16" if on_gpu else "float32"
        arguments: dict[str, Any] = {
            "model": str(policy),
            "dtype": dtype,
            "max_model_len": settings.max_model_len,
            "max_num_seqs": settings.max_num_seqs,
            "tensor_parallel_size": settings.tensor_parallel_size,
            "enforce_eager": settings.enforce_eager,
            "limit_mm_per_prompt": {"video": 1, "image": int(self._images)},
            "mm_processor_kwargs": PROCESSOR_KWARGS,
            "mm_processor_cache_gb": 0,  # no frames come twice
            "logprobs_mode": "processed_logprobs",  # after the ban and the temperature
            "generation_config": "vllm",  # sampling is as asked for, not as the policy's folder says
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            "seed": 0,
        }
        if on_gpu:
            return arguments | {"gpu_memory_utilization": settings.gpu_memory_utilization}
        return arguments | {
            "skip_mm_profiling": True,
            # vLLM rewinds the seeded generator of a prompt that it takes in parts, which no CPU generator can do
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(_BATCHED_TOKENS, settings.max_model_len),
            "kv_cache_memory_bytes": _cpu_kv_cache_bytes(settings, processor, dtype),
        }


def _new_engine(family: Family, arguments: dict[str, Any]) -> Any:
    from vllm import LLM, ModelRegistry

    # Given as a class, vLLM inspects it here. Else it would import everything once more in a child process to do so.
    ModelRegistry.register_model(family.model_class, with_exact_times(family.vllm_class()))
    return LLM(**arguments)


def _cpu_environment(settings: GenerationSettings, processor: Any) -> dict[str, str]:
    variables = {}
    if settings.enforce_eager:
        variables["TORCHDYNAMO_DISABLE"] = "1"  # else one small function is compiled for 15 s at the first token
    if policy_config(processor).get_text_config().hidden_size < _ONE_THREAD_WIDTH:
        variables["OMP_NUM_THREADS"] = "1"
    return variables


def _thread_restorer() -> Callable[[], None]:
    """On a CPU vLLM replaces torch.set_num_threads for the whole process: what undoes that and the number."""
    import torch

    original, threads = torch.set_num_threads, torch.get_num_threads()

    def restore() -> None:
        torch.set_num_threads = original
        original(threads)

    return restore


def _cpu_kv_cache_bytes(settings: GenerationSettings, processor: Any, dtype: str) -> int:
    """Room for `max_num_seqs` sequences of full length within a share of the free memory, or what the user has set."""
    if space := os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        return int(space) << 30
    import psutil

    config = policy_config(processor).get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * head * (4 if dtype == "float32" else 2)
    wanted = settings.max_num_seqs * settings.max_model_len * token
    return min(wanted, int(psutil.virtual_memory().available * _CPU_KV_CACHE_SHARE))


def _request(processor: Any, prompt: Prompt) -> dict[str, Any]:
    count = len(prompt.frames)
    metadata = {
        "fps": prompt.fps,
        "total_num_frames": count,
        "duration": count / prompt.fps,
        "frames_indices": list(range(count)),
        "video_backend": "opencv",
        "do_sample_frames": False,
    }
    data: dict[str, Any] = {"video": (prompt.frames, metadata)}
    if prompt.image is not None:
        from PIL import Image

        data["image"] = Image.fromarray(prompt.image)
    return {"prompt": render(processor, prompt), "multi_modal_data": data}


def _responses(processor: Any, key: str, seed: int, output: Any) -> list[Response]:
    responses = []
    for completion in sorted(output.outputs, key=lambda completion: completion.index):
        if completion.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"prompt {key}: response {completion.index} ended with {completion.finish_reason!r}")
        pairs = zip(completion.token_ids, completion.logprobs, strict=True)
        logprobs = [by_id[token].logprob for token, by_id in pairs]
        responses.append(
            make_response(
                processor,
                index=completion.index,
                seed=seed + completion.index,
                token_ids=completion.token_ids,
                logprobs=logprobs,
                stopped=completion.finish_reason == "stop",
            )
        )
    return responses


def _versions() -> dict[str, str]:
    import vllm

    packages = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    return {"vllm": vllm.__version__, **packages}
