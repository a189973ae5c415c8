"""A judge model behind any OpenAI-compatible endpoint. Off unless an address is given; a failed judgement is counted."""

from __future__ import annotations

import os

import httpx
import tenacity

from components.evaluation.benchmarks.contracts import BenchmarkError, Scoring
from components.shared.schemas import Sample

KEY_VARIABLE = "OPENAI_API_KEY"
_TIMEOUT = 60.0  # seconds, of one request


class Judge:
    """Asks one model, one question at a time."""

    def __init__(self, url: str, model: str) -> None:
        """`url` is the endpoint's base, such as `http://localhost:8000/v1`. The key comes from OPENAI_API_KEY, if set."""
        if not url.startswith(("http://", "https://")) or not model:
            raise BenchmarkError(f"--judge-url {url}: needs http:// or https://, and --judge-model the model's name")
        key = os.environ.get(KEY_VARIABLE, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url.rstrip("/") + "/", headers=headers, timeout=_TIMEOUT)
        self._model = model

    def reply(self, scoring: Scoring, sample: Sample, text: str, wait: float = 1.0) -> str:
        """The judge's words on a response: the first reply that is a judgement, else the last one; "" if there was none.

        Asks up to the protocol's number of attempts, `wait` seconds apart and longer each time.
        """
        rule = scoring.judge
        if rule is None:
            raise BenchmarkError(f"protocol {scoring.name} has no use for a judge")
        request = {
            "model": self._model,
            "messages": rule.messages(sample, text),
            "temperature": rule.decoding.temperature,
            "top_p": rule.decoding.top_p,
            "max_tokens": rule.decoding.max_new_tokens,
        }
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(rule.attempts),
            wait=tenacity.wait_exponential(multiplier=wait, max=20 * wait),
            retry=tenacity.retry_if_exception_type(httpx.HTTPError)
            | tenacity.retry_if_result(lambda said: rule.read(sample, said) is None),
            retry_error_callback=_last_words,
        )
        return retrying(self._ask, request)

    def _ask(self, request: dict[str, object]) -> str:
        response = self._client.post("chat/completions", json=request)
        response.raise_for_status()
        try:
            return str(response.json()["choices"][0]["message"]["content"] or "").strip()
        except (ValueError, KeyError, IndexError, TypeError):
            return ""


def _last_words(state: tenacity.RetryCallState) -> str:
    outcome = state.outcome
    return "" if outcome is None or outcome.failed else outcome.result()
