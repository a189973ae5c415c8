"""Groups as Parquet: one row a group, its responses a nested list, so that a group is never split."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.schemas import Group

_RESPONSE = pa.struct(
    [
        ("index", pa.int32()),
        ("seed", pa.int64()),
        ("token_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("logprobs", pa.list_(pa.float32())),
        ("finish_reason", pa.string()),
        ("rewards", pa.map_(pa.string(), pa.float64())),
        ("reward", pa.float64()),
    ]
)
_AUGMENTATION = pa.struct(
    [
        ("kind", pa.string()),
        ("delta", pa.float64()),
        ("level", pa.float64()),
        ("hint", pa.string()),
        ("noise_seed", pa.int64()),
        ("masked_frames", pa.list_(pa.int32())),
        ("frames_digest", pa.string()),
        ("reason", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("round", pa.int32()),
        ("augmentation", _AUGMENTATION),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("responses", pa.list_(_RESPONSE)),
    ],
    metadata={"schema_version": "1"},
)


def groups_to_parquet(groups: Sequence[Group]) -> bytes:
    """The groups as the bytes of a Parquet file, in the given order."""
    rows = [group.model_dump() for group in groups]
    for row in rows:
        for response in row["responses"]:
            response["rewards"] = list(response["rewards"].items())
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def groups_from_parquet(data: bytes) -> list[Group]:
    """The inverse of `groups_to_parquet`. Log-probs come back as float32 values."""
    # Arrow's own threads can abort the interpreter at exit: read in this one
    rows = pq.read_table(io.BytesIO(data), use_threads=False, pre_buffer=False).to_pylist()
    for row in rows:
        for response in row["responses"]:
            response["rewards"] = dict(response["rewards"])
    return [Group.model_validate(row) for row in rows]


def all_equal(rewards: Iterable[float], tolerance: float = 1e-6) -> bool:
    """Whether a group's rewards are equal within `tolerance`: its advantages vanish."""
    values = list(rewards)
    return max(values) - min(values) <= tolerance
