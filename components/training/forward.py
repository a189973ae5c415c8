"""The policy's forward pass over packed groups: the log-prob of each response token, and its entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from components.training.attention import Attention, Implementation, attention, choose, use_packed_attention
from components.training.head import ScoringHead
from components.training.packing import PackedBatch, scatter

if TYPE_CHECKING:
    from jaxtyping import Float

    from components.shared.policy_inputs import PromptInputs


class PackedPolicy(nn.Module):
    """A model whose forward takes packed groups. `features` are its frozen vision tower's, made beforehand.

    It takes the given model over: lm_head and attention are replaced.
    """

    def __init__(
        self,
        model: Any,
        banned: Sequence[int],
        lm_head_chunk: int,
        attention: Literal["auto"] | Implementation = "auto",
    ) -> None:
        super().__init__()
        self.model = model
        self.model.lm_head = ScoringHead(model.lm_head, lm_head_chunk)
        self.attention = attention
        use_packed_attention(model.model.language_model)
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
        embeddings = embeddings.masked_scatter(pads[:, None], features.to(embeddings.dtype))
        hidden = core.language_model(
            inputs_embeds=embeddings[None],
            position_ids=packed.position_ids[:, None],
            attention_mask={"full_attention": self._attention(packed, embeddings)},
            use_cache=False,
        ).last_hidden_state[0]
        hidden = hidden.index_select(0, packed.sources)  # indexing's gradient adds up in any order
        logprobs, entropies = self.model.lm_head(hidden, packed.targets, self.banned)
        return scatter(logprobs, packed), scatter(entropies, packed)

    def _attention(self, packed: PackedBatch, like: Tensor) -> Attention:
        text = self.model.config.get_text_config()
        head_dim = text.hidden_size // text.num_attention_heads
        chosen = self.attention
        if chosen == "auto":
            chosen = choose(packed.spans, text.num_attention_heads, head_dim, like.device.type)
        return attention(packed.spans, chosen, like.dtype, like.device)

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
