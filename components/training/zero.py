"""DeepSpeed's engine: its configuration, one optimizer step, and whole tensors in and out of its partitioned state.

Whole tensors, by parameter name, are what checkpoints and training states hold: they fit any number of ranks and every
ZeRO stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from components.training.settings import TrainingSettings

MOMENTS = ("exp_avg", "exp_avg_sq")


def engine_config(settings: TrainingSettings, parameters: int) -> dict[str, Any]:
    """DeepSpeed's configuration. `parameters`: how many numbers are trained."""
    zero: dict[str, Any] = {
        "stage": settings.zero_stage,
        "overlap_comm": False,
        "contiguous_gradients": True,
        "reduce_bucket_size": min(parameters, 200_000_000),  # a buffer of this size is held
        "allgather_bucket_size": 500_000_000,
        "memory_efficient_linear": False,  # ZeRO-3's own rounds otherwise than PyTorch's: log-ratios would not start at 0
    }
    for name in ("offload_optimizer", "offload_param"):
        if getattr(settings, name):
            zero[name] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,  # the loop marks each step's last micro-batch itself
        "gradient_clipping": settings.max_grad_norm,
        "bf16": {"enabled": settings.dtype == "bfloat16", "check_grad_overflow": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 40,
    }


def start_engine(module: nn.Module, parameters: list[nn.Parameter], settings: TrainingSettings) -> Any:
    """A DeepSpeed engine around `module` with PyTorch's AdamW, whose kernels need no compiler at run time."""
    import deepspeed

    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    config = engine_config(settings, sum(parameter.numel() for parameter in parameters))
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
    return engine


def gathered_masters(parameters: Mapping[str, nn.Parameter], *, keep: bool) -> dict[str, Tensor]:
    """Whole fp32 weights on the CPU; every rank must call it, and `keep` says which one gets them."""
    from deepspeed.utils import safe_get_full_fp32_param

    return _gathered(parameters, safe_get_full_fp32_param, keep)


def gathered_moments(parameters: Mapping[str, nn.Parameter], name: str, *, keep: bool) -> dict[str, Tensor]:
    """One of Adam's MOMENTS of every parameter, as `gathered_masters`."""
    from deepspeed.utils import safe_get_full_optimizer_state

    return _gathered(parameters, lambda parameter: safe_get_full_optimizer_state(parameter, name), keep)


def _gathered(parameters: Mapping[str, nn.Parameter], get: Any, keep: bool) -> dict[str, Tensor]:
    found = {}
    for name, parameter in parameters.items():
        whole = get(parameter)
        if keep:
            found[name] = whole.detach().float().cpu().clone()
    return found


def restore(
    engine: Any,
    parameters: Mapping[str, nn.Parameter],
    masters: Mapping[str, Tensor],
    moments: Mapping[str, Mapping[str, Tensor]],
    optimizer_steps: int,
) -> None:
    """Put fp32 masters, Adam's moments and its count of steps back. The module must hold the masters' values."""
    from deepspeed.utils import (
        safe_set_full_fp32_param,
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    zero = engine.optimizer
    stage3 = engine.zero_optimization_stage() == 3
    for partition in _partitions(zero):  # what AdamW itself makes at its first step
        zero.optimizer.state[partition] = {
            "step": torch.tensor(float(optimizer_steps), device=partition.device),
            **{name: torch.zeros_like(partition) for name in MOMENTS},
        }
    if not stage3:
        zero._lazy_init_hp_params_optimizer_state()
    for name, parameter in parameters.items():
        values: dict[str | None, Tensor | None] = {
            None: masters.get(name),
            **{key: of[name] for key, of in moments.items()},
        }
        for key, value in values.items():
            if value is None:
                continue
            if stage3:
                part = _own_part(value, parameter, engine)
                setter = safe_set_local_fp32_param if key is None else safe_set_local_optimizer_state
            else:
                part = value
                setter = safe_set_full_fp32_param if key is None else safe_set_full_optimizer_state
            setter(parameter, part, *([] if key is None else [key]))


def _partitions(zero: Any) -> list[Tensor]:
    """This rank's flat fp32 masters, as AdamW sees them; each of DeepSpeed's optimizers has a name of its own for them."""
    names = (
        "fp32_partitioned_groups_flat",  # ZeRO-3
        "single_partition_of_fp32_groups",  # ZeRO-1 and 2
        "fp32_groups_flat_partition",  # ZeRO-1 in bf16
    )
    return next(getattr(zero, name) for name in names if hasattr(zero, name))


def _own_part(value: Tensor, parameter: Any, engine: Any) -> Tensor:
    size = parameter.ds_tensor.numel()  # of a rank's part, the last one padded
    flat = value.flatten()
    flat = nn.functional.pad(flat, (0, size * engine.world_size - flat.numel()))
    return flat[size * engine.global_rank :][:size]
