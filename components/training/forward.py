"""The policy's forward pass over packed groups: the log-prob of each response token, and its entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from components.training.packing import PackedBatch, attention_mask, scatter

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from components.shared.policy_inputs import PromptInputs


class Float32Head(nn.Linear):
    """The language model's head with logits in fp32, whatever the weight's type.

    Logits in bf16 are rounded to multiples of 1/16 and more; summed over a response that drowns the log-ratios.
    """

    def __init__(self, head: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = head.in_features, head.out_features
        self.weight = head.weight  # may be tied to the embedding
        self.register_parameter("bias", None)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.float(), self.weight.float())


class PackedPolicy(nn.Module):
    """A Qwen2.5-VL whose forward takes packed groups. `features` are its frozen vision tower's, made beforehand."""

    def __init__(self, model: Any, banned: Sequence[int], lm_head_chunk: int) -> None:
        super().__init__()
        self.model = model
        self.model.lm_head = Float32Head(model.lm_head)
        self.lm_head_chunk = lm_head_chunk
        self.banned: Tensor
        self.register_buffer("banned", torch.tensor(banned, dtype=torch.int64), persistent=False)

    def forward(
        self, packed: PackedBatch, features: Float[Tensor, "V hidden"]
    ) -> tuple[Float[Tensor, "B G T"], Float[Tensor, "B G T"]]:
        """Log-probs and entropies (nats, without gradient) of the response tokens, in fp32; 0 where there is no token.

        `features` are the batch's visual tokens in the order in which their pads stand. Ids that the sampler never
        draws are left out of the distribution.
        """
        core = self.model.model
        ids = packed.input_ids
        embeddings = core.language_model.embed_tokens(ids)
        pads = (ids == self.model.config.video_token_id) | (ids == self.model.config.image_token_id)
        embeddings = embeddings.masked_scatter(pads[..., None], features.to(embeddings.dtype))
        hidden = core.language_model(
            inputs_embeds=embeddings,
            position_ids=packed.position_ids,
            attention_mask={"full_attention": attention_mask(packed.segments)},
            use_cache=False,
        ).last_hidden_state
        hidden = hidden.flatten(0, 1).index_select(0, packed.sources)  # indexing's gradient adds up in any order
        chunks = zip(hidden.split(self.lm_head_chunk), packed.targets.split(self.lm_head_chunk), strict=True)
        if len(hidden) <= self.lm_head_chunk or not torch.is_grad_enabled():
            parts = [self._score(*chunk) for chunk in chunks]
        else:
            parts = [checkpoint(self._score, *chunk, use_reentrant=False) for chunk in chunks]
        logprobs, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        return scatter(logprobs, packed), scatter(entropies, packed)

    def _score(
        self, hidden: Float[Tensor, "n hidden"], targets: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        logits = self.model.lm_head(hidden).index_fill(-1, self.banned, torch.finfo(torch.float32).min)
        log_softmax = logits.log_softmax(-1)
        with torch.no_grad():
            entropy = -(log_softmax.exp() * log_softmax).sum(-1)
        return log_softmax.gather(-1, targets[:, None])[:, 0], entropy

    @torch.no_grad()
    def visual_features(self, prompt: PromptInputs) -> Float[Tensor, "V hidden"]:
        """The vision tower's tokens of one prompt, in the order in which their pads stand, on the CPU."""
        core, config, device = self.model.model, self.model.config, self.banned.device
        video = core.get_video_features(prompt.pixel_values_videos.to(device), prompt.video_grid_thw.to(device))
        parts = {_first(prompt.input_ids, config.video_token_id): torch.cat(video.pooler_output)}
        if prompt.pixel_values is not None and prompt.image_grid_thw is not None:
            image = core.get_image_features(prompt.pixel_values.to(device), prompt.image_grid_thw.to(device))
            parts[_first(prompt.input_ids, config.image_token_id)] = torch.cat(image.pooler_output)
        return torch.cat([parts[place] for place in sorted(parts)]).cpu()


def _first(ids: Tensor, token: int) -> int:
    return int((ids == token).nonzero()[0, 0])
