"""What can be told of local inputs before a run starts. Nothing is decoded, downloaded or written."""

from __future__ import annotations

from components.ingest.base_model import check_local_model
from components.ingest.errors import IngestError
from components.ingest.inputs import read_inputs, with_files
from components.ingest.limits import check_losses, check_to_evaluate_on, check_to_train_on
from components.ingest.prompt_length import PromptCounter
from components.ingest.readers import decoder_version
from components.ingest.settings import MOVING_SHAPES, IngestSettings


def check_local_inputs(settings: IngestSettings) -> str:
    """Raise IngestError, naming the setting, the path and the remedy, for what ingest would refuse before it decodes.

    Returns a line with the terms of a public set, empty for the user's own data.

    What lies in S3 or on the hub is left to ingest, which may run where it can be reached.
    """
    decoder_version(settings.decoder)
    if (model := check_local_model(settings)) is not None:
        PromptCounter(model).check_frame_size(settings.frame_size)
    if settings.annotations == MOVING_SHAPES:
        if settings.videos:
            raise IngestError(
                f"ingest.videos: {settings.videos} belongs to annotations of your own: give ingest.annotations as well"
            )
        return ""
    if any(uri.startswith("s3://") for uri in (settings.annotations, settings.videos)):
        return ""
    inputs = read_inputs(settings, None)  # local files are read where they are
    kept, lost = with_files(inputs)
    check_losses(lost, inputs.total, settings.max_quarantine_fraction)
    splits = inputs.rows.splits.used(kept)
    check_to_train_on(splits, settings.annotations)
    check_to_evaluate_on(splits, settings.annotations)
    return inputs.terms.line() if inputs.terms else ""
