"""How many floating-point operations a step needs: a multiplication and an addition are two.

Counted are the matrix products, which are all but a few per mille: linear layers, 2 x weights x tokens; attention, by the
pairs of tokens that the mask lets see each other, 2 x channels for the score and as much for the value; the head where it
is applied. The backward pass is twice the forward pass. What is computed again in the backward pass does not count.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.benchmarks.race.shapes import ModelShape, Point

# Of AdamW, per weight: 3 for the first moment (two products, a sum), 4 for the second, 2 bias corrections, root and
# epsilon 2, division 1, decay 1, and 2 to scale and subtract the step.
ADAMW = 15


class Work(NamedTuple):
    """What one forward pass goes over."""

    tokens: int
    pairs: int  # of tokens that attention's mask lets see each other
    scored: int  # tokens that the head is applied to


def layer_weights(shape: ModelShape) -> int:
    """Weights of one layer's matrices: query, output, key, value; gate, up, down."""
    attention = 2 * shape.hidden * shape.heads * shape.head_dim + 2 * shape.hidden * shape.kv_heads * shape.head_dim
    return attention + 3 * shape.hidden * shape.intermediate


def weights(shape: ModelShape) -> int:
    """All trained weights: matrices, biases of query, key and value, norms, embedding, and the head if it is its own."""
    biases = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    layer = layer_weights(shape) + biases + 2 * shape.hidden
    return shape.layers * layer + shape.hidden + (1 if shape.tied else 2) * shape.vocabulary * shape.hidden


def causal_pairs(tokens: int) -> int:
    """Pairs in a row where a token sees itself and all before it."""
    return tokens * (tokens + 1) // 2


def packed_work(point: Point) -> Work:
    """The prompt once, then the responses without their last tokens; each sees the prompt and itself."""
    inputs = point.response - 1
    pairs = causal_pairs(point.prompt) + point.generations * (inputs * point.prompt + causal_pairs(inputs))
    return Work(point.prompt + point.generations * inputs, pairs, point.generations * point.response)


def row_work(point: Point) -> Work:
    """One row a response, prompt and response whole; the head where a response token is predicted, and at the row's end."""
    length = point.prompt + point.response
    return Work(
        point.generations * length, point.generations * causal_pairs(length), point.generations * (point.response + 1)
    )


def trl_work(point: Point) -> Work:
    """As rows, but with the head at every token that predicts one: so does TRL's fused head where there is no Triton."""
    rows = row_work(point)
    return rows._replace(scored=rows.tokens - point.generations)


def forward(shape: ModelShape, work: Work) -> int:
    """Operations of one forward pass."""
    linear = 2 * shape.layers * layer_weights(shape) * work.tokens
    attention = 4 * shape.layers * shape.heads * shape.head_dim * work.pairs
    return linear + attention + 2 * shape.hidden * shape.vocabulary * work.scored


def step(shape: ModelShape, work: Work) -> int:
    """Operations of a forward and a backward pass."""
    return 3 * forward(shape, work)


def optimizer_step(shape: ModelShape) -> int:
    """Operations of AdamW."""
    return ADAMW * weights(shape)
