"""Make `import torchvision` work beside a torch that its compiled part was not built for.

The Qwen-VL processors use only torchvision's Python part, whose import fails with `operator torchvision::nms does not
exist` when the compiled part cannot be loaded. Declaring the two missing operator schemas is all it takes. Where
torchvision imports by itself, nothing here has any effect.
"""

from __future__ import annotations

import importlib
import sys

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library = None  # torch drops the schemas when the Library object is collected


def ensure_torchvision() -> bool:
    """Import torchvision, declaring its missing operators if that is what its import fails on.

    Call it before the first import of transformers or vllm in a process. vLLM also calls it in the child process in
    which it inspects model classes, through the `vllm.general_plugins` entry point in pyproject.toml.

    Returns True if the schemas had to be declared, False if torchvision was untouched.
    """
    global _library
    try:
        importlib.import_module("torchvision")
        return False
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        _library.define(schema)
    importlib.import_module("torchvision")
    return True
