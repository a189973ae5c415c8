"""The settings of training. Names are TRL's where TRL has them."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import ValidationInfo, field_validator, model_validator

from components.shared.settings import StepSettings, setting
from components.training.objectives import OBJECTIVES, Objective, ObjectiveName, declaration

AdaptedModule = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_OF_SOME = sorted(frozenset[str]().union(*(objective.settings for objective in OBJECTIVES.values())))


class TrainingSettings(StepSettings):
    """How a round's groups become an updated policy."""

    objective: ObjectiveName = setting(
        "reg_grpo",
        f"What is minimised. {'; '.join(f'{name}: {item.summary}' for name, item in OBJECTIVES.items())}.",
        compiled=True,
    )
    num_iterations: int = setting(2, "Passes over a round's groups.", unit="passes", ge=1)
    steps_per_generation: int = setting(8, "Optimizer steps in one pass over a round's groups.", unit="steps", ge=1)
    std_floor: float = setting(
        1.0,
        "reg_grpo, grpo: floor of the standard deviation of rewards, and of log-ratios: std = sqrt(var + floor^2).",
        gt=0,
    )
    epsilon: float = setting(
        0.2, "grpo, rloo: the probability ratio is clipped to 1 +- epsilon; 0 does not clip.", ge=0, lt=1
    )
    epsilon_high: float = setting(0.0, "grpo, rloo: the clip's upper side; 0: the same as epsilon.", ge=0)
    loss_type: Literal["grpo", "bnpo", "dapo"] = setting(
        "grpo", "grpo: tokens are averaged over their response, over their group, or over the optimizer step."
    )
    eta: float = setting(
        1.0, "rebel, reward_regression: log-ratios are regressed by eta times the reward.", unit="1/reward", gt=0
    )
    mask_truncated_completions: bool = setting(False, "Leave responses that hit the length limit out of their group.")

    beta: float = setting(
        0.1, "Weight of the KL penalty; dpo, online_dpo: factor of their log-ratio differences instead.", ge=0
    )
    kl_estimator: Literal["k1", "k2", "k3"] = setting("k3", "How the KL divergence of a token is estimated.")
    kl_reference: Literal["run", "round"] = setting(
        "run", "The reference of the KL penalty, and of online_dpo: the run's first policy, or the round's."
    )

    learning_rate: float = setting(1e-6, "Peak learning rate of AdamW.", gt=0)
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "cosine"] = setting(
        "constant", "Learning rate over the run."
    )
    warmup_steps: int = setting(0, "Optimizer steps of linear warm-up, over all rounds.", unit="steps", ge=0)
    max_steps: int = setting(0, "Optimizer steps of the whole run: where cosine reaches 0.", unit="steps", ge=0)
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay.", ge=0)
    adam_beta1: float = setting(0.9, "AdamW's decay of the first moment.", ge=0, lt=1)
    adam_beta2: float = setting(0.999, "AdamW's decay of the second moment.", ge=0, lt=1)
    adam_epsilon: float = setting(1e-8, "AdamW's epsilon.", gt=0)
    max_grad_norm: float = setting(1.0, "The gradient's norm is clipped to this; 0 does not clip.", ge=0)

    lora_r: int = setting(0, "Rank of a LoRA adapter on the language model; 0 trains the language model in full.", ge=0)
    lora_alpha: int = setting(32, "LoRA: its product is scaled by lora_alpha / lora_r.", ge=1)
    lora_target_modules: tuple[AdaptedModule, ...] = setting(
        get_args(AdaptedModule), "LoRA: the linear layers that get an adapter.", min_length=1
    )

    dtype: Literal["bfloat16", "float32"] = setting(
        "bfloat16", "Type of the weights in forward and backward; masters are fp32."
    )
    micro_batch_tokens: int = setting(
        4096,
        "Groups share a forward pass as long as their prompts and responses have at most this many tokens together; a"
        " larger group has one to itself. More is faster up to a point, and takes more memory.",
        unit="tokens",
        ge=1,
    )
    attention: Literal["auto", "dense", "split", "flex"] = setting(
        "auto",
        "How a packed group attends: dense masks what need not be computed; split and flex leave it out, on CPUs and on"
        " GPUs. auto takes the fastest for the shape. All are exact.",
    )
    gradient_checkpointing: bool = setting(False, "Recompute activations in the backward pass: slower, less memory.")
    lm_head_chunk: int = setting(512, "Positions whose logits are held at a time.", unit="tokens", ge=1)
    zero_stage: Literal[1, 2, 3] = setting(
        2, "DeepSpeed's ZeRO stage: ranks share the optimizer's state (1), the gradients too (2), the weights too (3)."
    )
    offload_optimizer: bool = setting(
        False, "Keep the optimizer's state in host memory, and make its steps on the CPU: slower, less GPU memory."
    )
    offload_param: bool = setting(False, "zero_stage 3: keep the weights in host memory between their uses.")
    nproc_per_node: int = setting(1, "Training processes, one a GPU.", unit="processes", ge=1, compiled=True)
    checkpoint_steps: int = setting(
        8, "Optimizer steps between checkpoints inside a round; 0 makes none.", unit="steps", ge=0
    )

    stop_kl: float = setting(
        0.0, "Stop the run when a round's last step has a larger KL; 0 is off.", unit="nats/token", ge=0
    )
    stop_entropy: float = setting(
        0.0, "Stop the run when a round's last step has a smaller entropy; 0 is off.", unit="nats/token", ge=0
    )
    stop_reward_drop: float = setting(
        0.0, "Stop the run when a round's mean reward is this far below the best one; 0 is off.", unit="reward", ge=0
    )
    stop_reward_patience: int = setting(
        0, "Stop the run after this many rounds without a new best mean reward; 0 is off.", unit="rounds", ge=0
    )

    @field_validator(*_OF_SOME)
    @classmethod
    def _is_used(cls, value: object, info: ValidationInfo) -> object:
        """A value that is not the default is refused if the objective does not look at it. (Dumped settings have all.)"""
        name, objective = info.field_name or "", info.data.get("objective")
        default = cls.model_fields[name].default
        if objective and name not in declaration(objective).settings and value != default:
            users = ", ".join(user for user, item in OBJECTIVES.items() if name in item.settings)
            raise ValueError(f"objective {objective} does not use it: leave it at {default}, or choose one of {users}")
        return value

    @field_validator("epsilon_high")
    @classmethod
    def _is_the_side_of_a_clip(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("epsilon") == 0:
            raise ValueError("epsilon is 0, which does not clip: leave it at 0, or raise epsilon")
        return value

    @field_validator("beta")
    @classmethod
    def _lets_the_objective_see_the_policy(cls, value: float, info: ValidationInfo) -> float:
        objective = info.data.get("objective")
        if objective and not declaration(objective).kl_penalty and not value:
            raise ValueError(f"objective {objective} is constant without it: raise it above 0")
        return value

    @field_validator("kl_reference")
    @classmethod
    def _is_whose_samples_they_are(cls, value: str, info: ValidationInfo) -> str:
        objective = info.data.get("objective")
        if objective and declaration(objective).rollout_policy == "reference" and value != "run":
            raise ValueError(
                f"objective {objective} is trained on samples of its reference, the run's first policy:"
                " leave it at run, or choose online_dpo"
            )
        return value

    @field_validator("offload_param")
    @classmethod
    def _is_what_zero_3_can_do(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("zero_stage") != 3:
            raise ValueError("only ZeRO-3 divides the weights: set zero_stage to 3, or offload the optimizer alone")
        return value

    @model_validator(mode="after")
    def _cosine_needs_its_end(self) -> TrainingSettings:
        if self.lr_scheduler_type == "cosine" and self.max_steps <= self.warmup_steps:
            raise ValueError(
                "max_steps: lr_scheduler_type cosine needs the run's optimizer steps, more than warmup_steps"
            )
        return self

    @property
    def declared(self) -> Objective:
        """What the objective is and wants."""
        return declaration(self.objective)

    @property
    def needs_reference(self) -> bool:
        """Whether log-probs under the run's first policy are used at all."""
        return self.kl_reference == "run" and (self.beta > 0 or self.stop_kl > 0)
