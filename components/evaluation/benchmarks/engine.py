"""vLLM as the project runs it, asked in a protocol's own words: its prompt, its decoding, its order of text and video."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import components
from components.evaluation.benchmarks.contracts import Decoding
from components.shared.engines import engine_version
from components.shared.files import sha256_bytes, sha256_file
from components.shared.generation import GenerationSettings, Prompt, vllm_engine
from components.shared.generation.quiet import no_garbage_collection
from components.shared.generation.requests import check_same_prompt
from components.shared.policy_inputs import banned_token_ids, eos_token_ids, load_processor, prompt_token_ids

_ENGINES = ("vllm", "transformers", "torch")
_CODE = ("shared/generation", "shared/families.py", "shared/policy_inputs.py", "evaluation/benchmarks/engine.py")


@dataclass(frozen=True, eq=False)
class Asked:
    """One question: `shown` holds sample, frames and image (its own text is not used), `text` is the protocol's prompt."""

    shown: Prompt
    text: str
    seed: int


@dataclass(frozen=True)
class Said:
    """What the model said: the text as it came, and how many tokens it has. `problem` says why there is none."""

    text: str = ""
    tokens: int = 0
    stopped: bool = True  # False: cut off at the protocol's max_new_tokens
    problem: str = ""


def chat_text(processor: Any, asked: Asked, decoding: Decoding, text_first: bool) -> str:
    """The whole prompt, one pad token a video or image, by the policy's own chat template; then the answer's given start."""
    media = [{"type": "video"}] + ([{"type": "image"}] if asked.shown.image is not None else [])
    text = [{"type": "text", "text": asked.text}]
    content = text + media if text_first else media + text
    turn = [{"role": "user", "content": content}]
    return processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) + decoding.prefill


class BenchmarkEngine(vllm_engine.VllmSampler):
    """One engine for all questions of an evaluation. `images`: whether any of them shows an image beside its video."""

    def __init__(self, settings: GenerationSettings, images: bool) -> None:
        super().__init__(settings)
        self._with_images = images

    def ask(
        self, policy: Path, questions: Sequence[Asked], decoding: Decoding, *, text_first: bool = False
    ) -> list[Said]:
        """What the policy says to each question, in their order; a question that cannot be asked has a `problem`.

        What is said depends on the arguments alone. Raises RuntimeError if the engine does not start, or if it saw
        other tokens than the project's own code makes of the prompt.
        """
        began = time.monotonic()
        with no_garbage_collection():
            processor = load_processor(policy)
        texts = [chat_text(processor, one, decoding, text_first) for one in questions]
        said: list[Said] = []
        expected: list[tuple[int, ...]] = []
        for one, text in zip(questions, texts, strict=True):
            try:
                expected.append(self._fitting(processor, one.shown, text, decoding))
                said.append(Said())
            except ValueError as error:
                expected.append(())
                said.append(Said(problem=str(error)))
        wanted = [place for place, ids in enumerate(expected) if ids]
        if not wanted:
            return said
        self._start(policy, processor, images=self._with_images, began=began)
        self._engine.reset_prefix_cache()
        self._engine.reset_mm_cache()
        self._engine.llm_engine.reset_encoder_cache()
        requests = [vllm_engine._request(processor, questions[i].shown) | {"prompt": texts[i]} for i in wanted]
        parameters = _parameters(processor, [questions[i].seed for i in wanted], decoding)
        outputs = self._engine.generate(requests, parameters, use_tqdm=False)
        for place, output in zip(wanted, outputs, strict=True):
            check_same_prompt(questions[place].shown.key, output.prompt_token_ids, expected[place])
            [completion] = output.outputs
            if completion.finish_reason not in ("stop", "length"):
                raise RuntimeError(f"{questions[place].shown.key}: the answer ended with {completion.finish_reason!r}")
            said[place] = Said(
                text=processor.tokenizer.decode(list(completion.token_ids), skip_special_tokens=True),
                tokens=len(completion.token_ids),
                stopped=completion.finish_reason == "stop",
            )
        return said

    def _fitting(self, processor: Any, shown: Prompt, text: str, decoding: Decoding) -> tuple[int, ...]:
        """The prompt's token ids. Raises ValueError if they and the longest answer are more than the engine takes."""
        own = prompt_token_ids(processor, shown)  # also checks the frames
        ids: list[int] = []
        for token in processor.tokenizer(text)["input_ids"]:
            pad = token in (processor.video_token_id, processor.image_token_id)
            ids.extend([token] * (own.count(token) if pad else 1))
        if any(ids.count(pad) != own.count(pad) for pad in (processor.video_token_id, processor.image_token_id)):
            raise ValueError("its text holds a vision token of its own")
        room = self.settings.max_model_len - decoding.max_new_tokens
        if len(ids) > room:
            raise ValueError(
                f"{len(ids)} tokens and an answer of up to {decoding.max_new_tokens} do not fit into "
                f"generation.max_model_len = {self.settings.max_model_len}; raise it, or lower frames or pixels"
            )
        return tuple(ids)


def _parameters(processor: Any, seeds: Sequence[int], decoding: Decoding) -> list[Any]:
    from vllm import SamplingParams

    banned = dict.fromkeys(banned_token_ids(processor), float("-inf"))
    return [
        SamplingParams(
            n=1,
            seed=seed,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            max_tokens=decoding.max_new_tokens,
            stop_token_ids=list(eos_token_ids(processor)),
            logit_bias=banned,
            detokenize=False,
        )
        for seed in seeds
    ]


@functools.cache
def engine_code() -> str:
    """Digest of the project's own code between a prompt and its answer."""
    root = Path(components.__file__).parent
    found = [path for name in _CODE for path in sorted({root / name, *(root / name).glob("*.py")}) if path.is_file()]
    return sha256_bytes(*(f"{path.name}\0{sha256_file(path)}\n".encode() for path in found))


def engine_versions() -> dict[str, str]:
    """The installed versions of what makes the answers; the engine need not have started."""
    return {name: engine_version(name) for name in _ENGINES}
