"""The process in which a round is trained, one a GPU: `python -m components.training.worker SPEC`.

It is started by launch.py. SPEC is a JSON file with a `WorkerSpec`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from components.shared.processes import die_with_parent
from components.training.spec import WorkerSpec

# transformers and deepspeed import these where they are installed and use nothing of them here: 3 s of every start
_NOT_NEEDED = ("sklearn", "mlflow")


def main(spec_file: Path) -> None:
    """Train the round that `spec_file` describes."""
    die_with_parent()  # torchrun puts workers into sessions of their own
    spec = WorkerSpec.model_validate_json(spec_file.read_text())
    for name in _NOT_NEEDED:
        sys.modules[name] = None  # type: ignore[assignment] # Python's way to make an import fail
    if int(os.environ["RANK"]) != 0:
        os.environ.pop("DEEPVIDEO_PROGRESS", None)

    import torch

    if not torch.cuda.is_available():
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # nothing is compiled on CPUs, and loading the compiler takes 2 s
        os.environ["DS_ACCELERATOR"] = "cpu"
        torch.use_deterministic_algorithms(True)  # a round that was killed ends with the same weights, bit for bit
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch sets it by assignment
    from torch.distributed.elastic.multiprocessing.errors import record

    record(_train)(spec)  # lets torchrun end its log with the error of the rank that failed first


def _train(spec: WorkerSpec) -> None:
    import torch

    from components.training.distributed import join
    from components.training.round import Round

    Round(spec, join()).run()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
