"""Settings of the artifact store that AWS's own variables and files do not have."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from components.shared.settings import StepSettings, setting


class StoreSettings(StepSettings):
    """How the store moves bytes to and from S3. Endpoint, region, credentials, CA: the usual AWS variables and files."""

    sse: Literal["none", "AES256", "aws:kms"] = setting(
        "none", "Server-side encryption to ask for in S3; none: the bucket's own default holds"
    )
    sse_kms_key_id: str = setting("", "KMS key for aws:kms; empty: the account's default key")
    part_size: int = setting(16, "Size of the parts in which large files travel to and from S3", unit="MiB", ge=5)
    concurrency: int = setting(8, "Files and parts on their way to or from S3 at once", unit="requests", ge=1, le=64)
    patience: int = setting(
        600, "How long a request is tried again while S3 does not answer", unit="s", ge=1, le=86_400
    )

    @model_validator(mode="after")
    def _key_only_with_kms(self) -> StoreSettings:
        if self.sse_kms_key_id and self.sse != "aws:kms":
            raise ValueError("sse_kms_key_id: is used with sse=aws:kms only")
        return self
