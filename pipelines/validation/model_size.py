"""How large a base model is, by its config.json alone, wherever it lies."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from components.ingest.base_model import check_local_model, model_source
from components.ingest.errors import IngestError
from components.ingest.settings import IngestSettings

_HUB_SECONDS = 10.0  # that the hub is waited for


class ModelSize(NamedTuple):
    """What the estimates need of a model: counts of parameters, and the language model's shape."""

    language: int  # parameters, those that are trained
    vision: int  # parameters of the frozen vision tower
    layers: int
    hidden: int
    kv_width: int  # key-value heads times their width
    vocabulary: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.language + self.vision


def read_model_size(settings: IngestSettings) -> ModelSize:
    """The size of the run's base model. Raises IngestError, with the remedy, if there is no such model or it cannot be had."""
    source = model_source(settings)
    check_local_model(settings)
    with tempfile.TemporaryDirectory() as scratch:
        if source is None:
            path = _from_hub(settings.model, settings.model_revision, Path(scratch))
        elif "config.json" not in source.names():
            raise IngestError(
                f"ingest.model: {settings.model} has no config.json: correct the path, or copy the model there"
            )
        else:
            path = source.fetch("config.json", Path(scratch))
        try:
            return model_size(json.loads(path.read_text()))
        except (ValueError, KeyError, AttributeError) as error:
            raise IngestError(
                f"ingest.model: config.json of {settings.model} does not give its size ({error!r})"
            ) from error


def model_size(config: dict[str, Any]) -> ModelSize:
    """Counts by the shapes of a Qwen-VL model: matrices alone, which are all but a thousandth of the parameters."""
    text, vision = config.get("text_config") or config, config["vision_config"]
    width, layers, heads = text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"]
    kv_width = width // heads * text.get("num_key_value_heads", heads)
    layer = 2 * width * width + 2 * width * kv_width + 3 * width * text["intermediate_size"]
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    embeddings = text["vocab_size"] * width * (1 if tied else 2)
    seen = vision["hidden_size"]
    block = 4 * seen * seen + 3 * seen * vision["intermediate_size"]
    merger = (4 * seen) ** 2 + 4 * seen * width
    return ModelSize(
        language=embeddings + layers * layer,
        vision=vision["depth"] * block + merger,
        layers=layers,
        hidden=width,
        kv_width=kv_width,
        vocabulary=text["vocab_size"],
    )


def _from_hub(model: str, revision: str, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        endpoint = os.environ.get("HF_ENDPOINT")
        found = hf_hub_download(model, "config.json", revision=revision, endpoint=endpoint, etag_timeout=_HUB_SECONDS)
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = str(error).strip().splitlines()[0]
        raise IngestError(
            f"ingest.model: {model} at {revision} cannot be had from the hub ({reason}); check both names, the network, and"
            " HF_TOKEN in the hub's secret for a gated model"
        ) from error
    return Path(found)
