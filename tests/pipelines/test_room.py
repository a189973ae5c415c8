"""What the first task says of GPUs: the estimates by hand, and pools by settings or over the Kubernetes API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from pipelines.settings import RunSettings, SettingsError, build_settings, load_preset
from pipelines.validation.estimate import GIB, needs, sampling_memory, training_memory
from pipelines.validation.model_size import ModelSize, model_size
from pipelines.validation.room import PodPlan, check_room
from tests.services.http_server import Answer, HttpServer, Request, http_server
from tests.services.kubeconfig import TOKEN, lead_to

_VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420}
# the published config.json of Qwen2.5-VL-3B and 7B
_3B = {
    "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2,
    "intermediate_size": 11008, "vocab_size": 151936, "tie_word_embeddings": True, "vision_config": _VISION,
}  # fmt: skip
_7B = {
    "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False, "vision_config": _VISION,
}  # fmt: skip
QWEN_3B = model_size(_3B)


@pytest.mark.parametrize(("config", "published"), [(_3B, 3_754_622_976), (_7B, 8_292_166_656)])
def test_a_models_size_follows_from_its_config(config: dict[str, Any], published: int) -> None:
    # published: the number of parameters in the hub's safetensors
    assert model_size(config).parameters == pytest.approx(published, rel=0.001)


def settings_of(**given: Any) -> RunSettings:
    return build_settings(load_preset("paper-3b"), {name.replace("__", "."): value for name, value in given.items()})


def test_training_memory_is_the_sum_that_zero_and_korthikanti_give() -> None:
    model = ModelSize(
        language=3_000_000_000, vision=600_000_000, layers=36, hidden=2048, kv_width=256, vocabulary=150_000
    )
    # by hand, bf16, 8 ranks, ZeRO-2, reference, checkpointing; a group is 3072 + 8 * 1024 = 11264 tokens
    weights, reference = 2 * 3.6e9, 2 * 3.6e9
    gradients, optimizer = 2 * 3e9 / 8, 12 * 3e9 / 8
    activations = 34 * 11264 * 2048 + 36 * 2 * 11264 * 2048
    logits = 3 * 4 * 512 * 150_000
    by_hand = weights + reference + gradients + optimizer + activations + logits + 2 * 2**30
    assert training_memory(model, settings_of()) == pytest.approx(by_hand)
    third = training_memory(model, settings_of(training__zero_stage=3))
    assert by_hand - third == pytest.approx(weights * 7 / 8)
    first = training_memory(model, settings_of(training__zero_stage=1))
    assert first - by_hand == pytest.approx(2 * 3e9 * 7 / 8)
    assert training_memory(model, settings_of(training__lora_r=16)) < by_hand - reference - 4e9


def test_hours_are_operations_over_what_a_gpu_reaches() -> None:
    settings = settings_of(pipeline__rounds=1)
    model = ModelSize(language=10**9, vision=0, layers=1, hidden=1, kv_width=1, vocabulary=1)
    found = {need.step: need.gpu_hours for need in needs(model, settings, settings.cluster)}
    tokens = 800 * (3072 + 8 * 1024)
    assert found["rollout"] == pytest.approx(2e9 * tokens / (312e12 * 0.15) / 3600)
    # forward 2, backward 4, recomputed 2; beforehand once under the old policy and once under the reference
    assert found["training"] == pytest.approx((8e9 + 4e9) * tokens / (312e12 * 0.35) / 3600)
    assert sampling_memory(model, settings) == pytest.approx((2e9 + 2 * 2 * 4096 + 2 * 2**30) / 0.85)


def node(name: str, gpus: int, taints: list[dict[str, str]] | None = None, memory: int = 81920, **labels: str) -> Any:
    present = {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.memory": str(memory), **labels}
    return {
        "metadata": {"name": name, "labels": present},
        "spec": {"taints": taints or [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus), "cpu": "64"}},
    }


class Cluster:
    """A Kubernetes API that lists nodes to the one who has the token, and may refuse to."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.allowed = True
        self.server: HttpServer

    def answer(self, request: Request) -> Answer:
        url = urlparse(request.path)
        if request.headers.get("Authorization", request.headers.get("authorization")) != f"Bearer {TOKEN}":
            return 401, {"kind": "Status", "reason": "Unauthorized"}
        if not self.allowed or url.path != "/api/v1/nodes":
            return 403, {"kind": "Status", "reason": "Forbidden"}
        wanted = [item.split("=") for item in parse_qs(url.query).get("labelSelector", [""])[0].split(",") if item]
        found = [
            item for item in self.nodes if all(item["metadata"]["labels"].get(key) == text for key, text in wanted)
        ]
        return 200, {"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": found}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    found = Cluster()
    with http_server(found.answer) as found.server:
        lead_to(found.server.url, tmp_path, monkeypatch)
        yield found


def checked(settings: RunSettings, **run_inputs: Any) -> list[str]:
    plan = PodPlan.model_validate_json(PodPlan.of(settings).model_dump_json())  # as it is compiled in
    return check_room(plan, QWEN_3B, settings, run_inputs)


def test_a_pool_with_room_gets_a_line_a_step(cluster: Cluster) -> None:
    cluster.nodes = [node("big", 8), node("small", 1)]
    lines = checked(settings_of())
    assert [line.partition(":")[0] for line in lines] == ["difficulty", "augmentation", "rollout", "training"]
    assert "GiB of each GPU" in lines[3] and "h on 8 GPUs" in lines[3]


def test_of_several_nodes_the_memory_is_divided_by_all_their_gpus(cluster: Cluster) -> None:
    cluster.nodes = [node("a", 8), node("b", 8)]
    lines = checked(settings_of(training_pods__num_nodes=2))
    one, two = training_memory(QWEN_3B, settings_of()), training_memory(QWEN_3B, settings_of(), 2)
    trained = 14 * QWEN_3B.language  # ZeRO-2: gradients and Adam's state, by hand
    assert one - two == pytest.approx(trained / 8 - trained / 16)
    assert f"about {two / GIB:.1f} GiB" in lines[3] and "h on 16 GPUs" in lines[3]


def test_more_gpus_than_the_largest_node_has_are_refused_in_time(cluster: Cluster) -> None:
    started = time.monotonic()
    cluster.nodes = [node("a", 4), node("b", 4)]
    with pytest.raises(SettingsError, match="training_pods.gpu_count: is 8, but the largest node .* has 4: lower it"):
        checked(settings_of())
    taints = [{"key": "team", "value": "other", "effect": "NoSchedule"}]
    cluster.nodes = [
        node("a", 4),
        node("theirs", 8, taints),
        node("elsewhere", 8, **{"nvidia.com/gpu.present": "false"}),
    ]
    with pytest.raises(SettingsError, match="has 4"):
        checked(settings_of())
    taints = [{"key": "team", "value": "ours", "effect": "NoSchedule"}]
    cluster.nodes = [node("ours", 8, [*taints, {"key": "nvidia.com/gpu", "effect": "NoSchedule"}])]
    with pytest.raises(SettingsError, match="has 0"):
        checked(settings_of())
    ours = [{"operator": "Equal", "effect": "NoSchedule", "key": "team", "value": "ours"}]
    gpu = [{"operator": "Exists", "effect": "NoSchedule", "key": "nvidia.com/gpu"}]
    assert len(checked(settings_of(), cluster_gpu_tolerations=[*ours, *gpu])) == 4
    assert time.monotonic() - started < 60


def test_shards_divide_the_hours_by_their_largest_share(cluster: Cluster) -> None:
    cluster.nodes = [node("a", 8)]
    one, four = (checked(settings_of(pipeline__shards=count))[0] for count in (1, 4))
    hours = [float(line.rpartition(", ")[2].partition(" ")[0]) for line in (one, four)]
    assert "h on 1 GPUs" in one and "h on 4 GPUs" in four
    assert hours[1] == pytest.approx(hours[0] * 4 / 13, abs=0.06)  # 800 prompts in chunks of 64: 13, 4 for the first


def test_shards_that_must_take_turns_or_have_nothing_to_do_are_told(cluster: Cluster) -> None:
    cluster.nodes = [node("a", 8)]
    assert len(checked(settings_of(pipeline__shards=8))) == 4
    (turns,) = checked(settings_of(pipeline__shards=4, pipeline__evaluation_shards=10))[4:]
    assert "10 shards of 1 GPUs each, but the pool has 8 now" in turns and "evaluation_shards" in turns
    (idle,) = checked(settings_of(pipeline__shards=4, difficulty__prompts_per_round=128))[4:]
    assert "a round has 2 chunks for 4 shards, so that 2 have nothing to do" in idle


def test_what_the_run_sets_is_what_is_looked_for(cluster: Cluster) -> None:
    cluster.nodes = [node("a", 4), node("b", 8, pool="big")]
    assert len(checked(settings_of(), cluster_training_node_selector={"pool": "big"})) == 4
    with pytest.raises(SettingsError, match="has 0"):
        checked(settings_of(), cluster_gpu_type="nvidia.com/mig-1g.10gb")


def test_a_pools_size_in_the_settings_wins_and_nobody_is_asked(cluster: Cluster) -> None:
    with pytest.raises(SettingsError, match="training_pods.gpu_count: is 8, but .* has 4"):
        checked(settings_of(cluster__gpus_per_node=4, cluster__gpu_memory=80))
    checked(settings_of(cluster__gpus_per_node=8, cluster__gpu_memory=80))
    assert cluster.server.requests == []


def test_gpus_that_are_too_small_are_refused_with_the_remedy(cluster: Cluster) -> None:
    cluster.nodes = [node("a", 8, memory=16384)]
    needed = training_memory(QWEN_3B, settings_of()) / GIB
    with pytest.raises(
        SettingsError, match=f"training: needs about {needed:.0f} GiB .* which has 16: raise training.zero"
    ):
        checked(settings_of())


def test_where_nodes_may_not_be_listed_the_run_goes_on_and_says_so(cluster: Cluster) -> None:
    cluster.allowed = False
    lines = checked(settings_of())
    assert sum("403 Forbidden; say cluster.gpus_per_node" in line for line in lines) == 2


@pytest.mark.parametrize("preset", ["paper-3b", "paper-7b"])
def test_the_papers_presets_fit_the_gpus_they_are_meant_for(preset: str) -> None:
    settings = build_settings(load_preset(preset), {"cluster.gpus_per_node": 8, "cluster.gpu_memory": 80})
    lines = check_room(PodPlan.of(settings), model_size(_3B if preset == "paper-3b" else _7B), settings, {})
    assert len(lines) == 4
