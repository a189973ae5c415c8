"""The operations that speed is judged by, against calculations by hand, the mask's rule, and published sizes."""

from __future__ import annotations

import pytest

from components.training.packing import batch, pack
from tests.benchmarks.race import flops
from tests.benchmarks.race.groups import made_group
from tests.benchmarks.race.models import vision_language_model
from tests.benchmarks.race.shapes import QUICK, QWEN_3B, QWEN_7B, ModelShape, Point

SMALL = ModelShape(hidden=4, layers=2, heads=2, kv_heads=1, intermediate=6, vocabulary=10, tied=True)
POINT = Point(prompt=3, response=2, generations=2)


def test_weights_are_those_counted_by_hand() -> None:
    assert flops.layer_weights(SMALL) == 4 * 4 + 4 * 4 + 4 * 2 + 4 * 2 + 3 * 4 * 6  # query, output, key, value, MLP
    by_hand = 2 * (120 + (4 + 2 + 2) + 2 * 4) + 4 + 10 * 4  # layers with biases and norms, last norm, embedding
    assert flops.weights(SMALL) == by_hand == 316
    assert flops.weights(SMALL._replace(tied=False)) == by_hand + 40


@pytest.mark.parametrize(
    ("shape", "published"),
    [(QWEN_3B, 3_085_938_688), (QWEN_7B, 7_615_616_512)],  # Qwen2.5-3B and Qwen2.5-7B, the language models
)
def test_weights_are_the_published_ones(shape: ModelShape, published: int) -> None:
    assert flops.weights(shape) == published


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_those_of_the_model_that_is_raced(tied: bool) -> None:
    model = vision_language_model(QUICK._replace(tied=tied))
    assert flops.weights(QUICK._replace(tied=tied)) == sum(parameter.numel() for parameter in model.parameters())


def test_work_of_packed_groups_and_of_rows_is_that_counted_by_hand() -> None:
    # prompt 1 + 2 + 3 pairs; of each response one token goes in, which sees the prompt and itself
    assert flops.packed_work(POINT) == flops.Work(tokens=5, pairs=6 + 2 * 4, scored=4)
    # two rows of five tokens; the head on both response tokens' predictors and on the last token
    assert flops.row_work(POINT) == flops.Work(tokens=10, pairs=2 * 15, scored=6)
    assert flops.trl_work(POINT) == flops.Work(tokens=10, pairs=2 * 15, scored=8)


def test_operations_are_those_counted_by_hand() -> None:
    linear, attention, head = 2 * 2 * 120 * 5, 4 * 2 * 4 * 14, 2 * 4 * 10 * 4
    assert flops.forward(SMALL, flops.packed_work(POINT)) == linear + attention + head == 3168
    assert flops.forward(SMALL, flops.row_work(POINT)) == 4800 + 960 + 480
    assert flops.step(SMALL, flops.row_work(POINT)) == 3 * 6240
    assert flops.optimizer_step(SMALL) == 15 * 316


def test_packed_work_is_that_of_the_packed_sequence_under_the_masks_rule() -> None:
    point = Point(prompt=48, response=7, generations=5)
    group = made_group(QUICK, point)
    packed = batch([pack(group.prompt, group.responses.tolist())])  # type: ignore[arg-type]
    work = flops.packed_work(point)
    assert packed.input_ids.numel() == work.tokens
    assert len(packed.targets) == work.scored
    part = [0] * 48 + [1 + index // 6 for index in range(5 * 6)]  # 0 is the prompt
    sees = [(q, k) for q in range(work.tokens) for k in range(q + 1) if part[k] in (0, part[q])]
    assert len(sees) == work.pairs
