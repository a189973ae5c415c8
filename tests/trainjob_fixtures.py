"""A step that trains on the nodes of a TrainJob, in a process and pod of its own, and the cluster that it asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.schemas import ArtifactRef
from components.training.settings import TrainingSettings
from components.training.spec import Work
from components.training.trainjob.nodes import FIELD_PATHS, Nodes
from pipelines.containers.radosgw import Bucket
from tests.services.kubernetes_api import NAMESPACE, Kubernetes
from tests.training_fixtures import stored_inputs

ROOT = Path(__file__).parents[1]
START = 600.0  # seconds until a step and its nodes must be at work
SETTINGS = TrainingSettings(
    learning_rate=1e-3, beta=0.05, steps_per_generation=2, num_iterations=1, micro_batch_tokens=400, checkpoint_steps=1,
    dtype="float32",
)  # fmt: skip
NODES = Nodes(
    count=2, runtime="deepvideo-torchrun", image="registry.example/deepvideo-r1-training:0.1.0", cpu="8", memory="64Gi",
    gpu_count=8, gpu_type="nvidia.com/gpu", node_selector={"nvidia.com/gpu.present": "true"},
    tolerations=({"operator": "Exists", "key": "nvidia.com/gpu", "effect": "NoSchedule"},), shared_memory="16Gi",
    scratch="500Gi", timeout=3600, queue="deepvideo-gpu", labels={"team": "video"}, image_pull_secrets=("pull",),
    run_as_user=10001, store_secret="store", store_secret_keys=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    store_config="store", store_config_keys=("AWS_ENDPOINT_URL", "AWS_REGION"),
)  # fmt: skip
STEP = """
import json, sys
from components.shared.context import StepContext
from components.shared.schemas import ArtifactRef
from components.training.settings import TrainingSettings
from components.training.step import train
from components.training.trainjob import run
from components.training.trainjob.nodes import Nodes
given = json.loads(sys.argv[1])
run.POLL = 0.3
outputs = train(
    **{name: ArtifactRef.model_validate(ref) for name, ref in given["refs"].items()},
    settings=TrainingSettings.model_validate(given["settings"]),
    context=StepContext.model_validate(given["context"]),
    nodes=Nodes.model_validate(given["nodes"]),
)
print("OUTPUTS", outputs.model_dump_json())
"""


class Round:
    """A round's inputs in a bucket, and the step that trains it in a process and pod of its own."""

    def __init__(self, root: Path, bucket: Bucket, policy: Path, cluster: Kubernetes) -> None:
        self.root, self.cluster = root, cluster
        self.context = StepContext(store=f"s3://{bucket.name}/store", seed=3, round=1, run_name="run-1")
        self.refs = stored_inputs(self.context.open_store(), root / "made", policy, 4)
        self.attempts = 0

    def pod(self) -> dict[str, str]:
        """The variables of a new pod for the step, by the downward API."""
        self.attempts += 1
        name = f"step-{self.attempts}"
        values = (name, self.cluster.add_pod(name), NAMESPACE, "deepvideo-runner")
        return dict(zip(FIELD_PATHS, values, strict=True))

    def start(self, **changed: ArtifactRef) -> subprocess.Popen[bytes]:
        """The step in a new pod; its output is `log(attempt)`."""
        refs = {name: ref.model_dump() for name, ref in (self.refs | changed).items()}
        given = {"refs": refs, "context": self.context.model_dump(), "settings": SETTINGS.model_dump()}
        argv = [sys.executable, "-c", STEP, json.dumps({**given, "nodes": NODES.model_dump()})]
        env = {**os.environ, **self.pod(), "PYTHONPATH": str(ROOT)}
        with open(self.root / f"step-{self.attempts}.log", "wb") as log:
            return subprocess.Popen(argv, env=env, cwd=self.root, stdout=log, stderr=log, start_new_session=True)

    def log(self) -> str:
        """What the step's last attempt printed."""
        return (self.root / f"step-{self.attempts}.log").read_text()

    def outputs(self) -> Outputs:
        """What the step's last attempt came to."""
        line = next(line for line in self.log().splitlines() if line.startswith("OUTPUTS "))
        return Outputs.model_validate_json(line.removeprefix("OUTPUTS "))

    def posts(self) -> int:
        """How many TrainJobs were made."""
        return sum(method == "POST" for method, _ in self.cluster.requests)


def work_of(a_round: Round) -> Work:
    refs = {name: ref for name, ref in a_round.refs.items()}
    return Work(
        settings=SETTINGS,
        context=a_round.context,
        key="training-x",
        base=None,
        adapter=None,
        noted={"round": 1},
        **refs,
    )


def at_work(cluster: Kubernetes) -> bool:
    """Whether both nodes have their workers."""
    printed = ["".join(pod.lines) for pod in cluster.nodes()]
    return len(printed) == NODES.count and all("starting the workers" in text for text in printed)
