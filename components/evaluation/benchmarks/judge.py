"""A judge model behind any OpenAI-compatible endpoint: one question, asked as often as its protocol says."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import tenacity

from components.evaluation.benchmarks.contracts import JUDGE_REQUESTS, BenchmarkError, JudgeRule, Scoring
from components.evaluation.benchmarks.telling import note
from components.shared.files import sha256_bytes
from components.shared.schemas import Sample

KEY_VARIABLE = "OPENAI_API_KEY"
_TIMEOUT = 60.0  # seconds, of one request
_LONGEST_WAIT = 20  # waits before the next attempt: 1, 2, 4, ... up to so many times Judge's `wait`
_SECONDS_BETWEEN_NOTES = 10.0
_MAY_PASS = {408, 425, 429}  # and 5xx: the endpoint is busy or away
_OF_ONE_REQUEST = {400, 413, 422}  # what this prompt is refused for, such as its length: others may pass


class JudgeError(BenchmarkError):
    """The judge cannot be used: it refuses every request, or nothing comes of them."""


class JudgeFailed(Exception):
    """One question got no reply. The message says why."""


class _MayPass(JudgeFailed):
    """A failure that may be gone in a moment. `wait`: seconds that the endpoint asks for."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class Judge:
    """One model at one address; `requests` of its questions may be asked at once, each by a thread of the caller's."""

    def __init__(self, url: str, model: str, requests: int = JUDGE_REQUESTS, wait: float = 1.0) -> None:
        """`url` is the endpoint's base, such as `http://localhost:8000/v1`. The key comes from OPENAI_API_KEY, if set.

        `wait` is the first wait before a failed request is sent again, in seconds; the next ones are longer. Raises
        BenchmarkError for what cannot be an address, a model or a key.
        """
        self.address = _address(url)
        if not model:
            raise BenchmarkError(f"--judge-model: give the judge's model, by its name at {self.address}")
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise BenchmarkError(f"{KEY_VARIABLE}: holds characters that no key has; set it anew")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=requests)
        base = url.rstrip("/") + "/"
        self._client = httpx.Client(base_url=base, headers=headers, timeout=_TIMEOUT, limits=limits)
        self.model, self.requests, self._wait = model, requests, wait
        self._noted, self._lock = -_SECONDS_BETWEEN_NOTES, threading.Lock()

    def key(self, benchmark: str, scoring: Scoring, sample: Sample, text: str) -> str:
        """Digest of all that determines the judge's reply. Neither the key nor what else lets one in is part of it."""
        parts = {"address": self.address, "benchmark": benchmark, "item": sample.id}
        request = self._request(_rule(scoring), sample, text)
        return sha256_bytes(json.dumps(parts | request, sort_keys=True, ensure_ascii=False).encode())

    def reply(self, scoring: Scoring, sample: Sample, text: str, stopped: threading.Event | None = None) -> str:
        """The judge's words on a response: the first reply that is a judgement, else the last one.

        Asks up to the protocol's number of attempts; between requests that failed it waits, unless `stopped` is set.
        Raises JudgeFailed if there was no reply, and JudgeError if there is no use in asking anything else.
        """
        rule, stopped = _rule(scoring), stopped or threading.Event()
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(rule.attempts) | tenacity.stop_when_event_set(stopped),
            wait=self._pause,
            sleep=tenacity.sleep_using_event(stopped),
            retry=tenacity.retry_if_exception_type(_MayPass)
            | tenacity.retry_if_result(lambda said: rule.read(sample, said) is None),
            before_sleep=self._tell,
            retry_error_callback=_last_words,
        )
        said = retrying(self._ask, self._request(rule, sample, text))
        if stopped.is_set() and rule.read(sample, said) is None:
            raise JudgeFailed("stopped before it gave a judgement")  # it would have been asked again
        return said

    def _request(self, rule: JudgeRule, sample: Sample, text: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": rule.messages(sample, text),
            "temperature": rule.decoding.temperature,
            "top_p": rule.decoding.top_p,
            "max_tokens": rule.decoding.max_new_tokens,
        }

    def _ask(self, request: dict[str, Any]) -> str:
        try:
            response = self._client.post("chat/completions", json=request)
        except httpx.TransportError as error:
            raise _MayPass(f"{type(error).__name__}: {error}") from None
        except httpx.HTTPError as error:
            raise JudgeFailed(f"{type(error).__name__}: {error}") from None
        if not response.is_success:
            raise self._problem(response)
        try:
            return str(response.json()["choices"][0]["message"]["content"] or "").strip()
        except (ValueError, KeyError, IndexError, TypeError):
            raise JudgeFailed(f"no chat completion came back but {self._brief(response)!r}") from None

    def _problem(self, response: httpx.Response) -> Exception:
        status = response.status_code
        told = f"HTTP {status} {response.reason_phrase}: {self._brief(response)}".removesuffix(": ")
        if status in _MAY_PASS or status >= 500:
            asked_for = response.headers.get("Retry-After", "")
            return _MayPass(told, min(float(asked_for), _TIMEOUT) if asked_for.isdecimal() else 0.0)
        if status in _OF_ONE_REQUEST:
            return JudgeFailed(told)
        remedy = {
            401: f"is the key in {KEY_VARIABLE} right?" if self._key else f"set {KEY_VARIABLE} to its key",
            403: f"may the key in {KEY_VARIABLE} use the model {self.model}?",
            404: f"does --judge-url end as it should, often in /v1, and has it the model {self.model}?",
        }.get(status, "are --judge-url and --judge-model right?")
        return JudgeError(f"the judge {self.model} at {self.address} refuses: {told}; {remedy}")

    def _brief(self, response: httpx.Response) -> str:
        text = " ".join(response.text.split())
        return (text.replace(self._key, "***") if self._key else text)[:200]

    def _pause(self, state: tenacity.RetryCallState) -> float:
        problem = state.outcome.exception() if state.outcome else None
        if not isinstance(problem, _MayPass):
            return 0.0  # it spoke, but gave no judgement
        return max(self._wait * min(2 ** (state.attempt_number - 1), _LONGEST_WAIT), problem.wait)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        problem = state.outcome.exception() if state.outcome else None
        if problem is None:
            return
        with self._lock:
            silent = time.monotonic() - self._noted < _SECONDS_BETWEEN_NOTES
            self._noted = self._noted if silent else time.monotonic()
        if not silent:
            wait = state.next_action.sleep if state.next_action else 0.0
            note(f"the judge at {self.address}: {problem}; trying again in {wait:.0f} s")


def _address(url: str) -> str:
    """The address without user, password and blanks. Raises BenchmarkError if it is none."""
    try:
        parts = urlsplit(url.strip())
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise BenchmarkError(f"--judge-url: is no address ({error})") from None
    shown = f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BenchmarkError(
            f"--judge-url {url.rpartition('@')[2]}: expected an address such as http://localhost:8000/v1, which begins "
            "with http:// or https://"
        )
    if parts.query or parts.fragment:
        raise BenchmarkError(f"--judge-url {shown}: leave out what follows ? or #; the key goes into {KEY_VARIABLE}")
    return shown


def _rule(scoring: Scoring) -> JudgeRule:
    if scoring.judge is None:
        raise BenchmarkError(f"protocol {scoring.name} has no use for a judge")
    return scoring.judge


def _last_words(state: tenacity.RetryCallState) -> str:
    assert state.outcome is not None  # tenacity calls this after an attempt
    return state.outcome.result()
