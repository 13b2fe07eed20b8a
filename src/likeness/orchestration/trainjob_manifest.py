"""Manifests of the fine-tuning job for Kubernetes: a Kubeflow Trainer v2 TrainJob, its runtime, and a PyTorchJob.

Written against trainer.kubeflow.org/v1alpha1 as Kubeflow Trainer 2.3 serves it. A TrainJob uses only fields that 2.0 to
2.3 share: what a pod looks like is the runtime's business, because the overrides of a TrainJob changed name twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from likeness.core.config import load_yaml, section
from likeness.core.errors import ConfigError, UnknownNameError, did_you_mean
from likeness.core.io import canonical_json, digest_bytes
from likeness.core.step import Resources
from likeness.orchestration.components import GPU, IMAGE
from likeness.orchestration.plan import Plan
from likeness.steps.finetune import FinetuneConfig

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
STEP = "finetune"
NAMESPACE, RUNTIME, ACCOUNT, CLAIM = "likeness", "likeness-torch", "likeness-trainer", "likeness-workspace"
CONTAINER = "node"  # the name by which Trainer finds the container it hands the job's command to
DIGEST = "likeness/spec-digest"
WORKSPACE = "/workspace"
LABELS = {"app.kubernetes.io/name": "likeness", "app.kubernetes.io/component": "trainer"}
USER = 1000
RESTARTS = 3
# Job and pod names append "-node-0-", an index and five random characters, within the 63 of a DNS label.
NAME_LENGTH = 46
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODULE = ("-m", "likeness.cli")

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Launch:
    """``processes`` on each of ``nodes``, each with the resources that the step asks for; ``gpus`` of a process when
    it is not the step's own number. ``env`` goes into every container.

    Raises:
        ConfigError: a name or a number that Kubernetes or torchrun would refuse.
    """

    name: str
    namespace: str = NAMESPACE
    image: str = IMAGE
    nodes: int = 1
    processes: int = 1
    gpus: int | None = None
    runtime: str = RUNTIME
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > NAME_LENGTH:
            raise ConfigError(
                f"'{self.name}' cannot name a TrainJob",
                remedy=f"give --name at most {NAME_LENGTH} small letters, digits and dashes, a letter first",
            )
        if self.nodes < 1 or self.processes < 1 or (self.gpus or 0) < 0:
            raise ConfigError(
                f"{self.nodes} nodes of {self.processes} processes with {self.gpus} GPUs cannot be started",
                remedy="give --nodes and --processes of at least 1, --gpus of at least 0",
            )
        for name in self.env:
            if not _VARIABLE.fullmatch(name) or name.startswith("PET_"):
                raise ConfigError(
                    f"the variable '{name}' cannot be set in a TrainJob",
                    remedy="names have letters, digits and underscores; PET_* is what Trainer tells torchrun",
                )


def parse_env(pairs: list[str]) -> dict[str, str]:
    """``NAME=value`` pairs as a mapping; raises ConfigError for anything else."""
    split = [pair.partition("=") for pair in pairs]
    for pair, (name, equals, _) in zip(pairs, split, strict=True):
        if not (name and equals):
            raise ConfigError(f"--env {pair!r} is not NAME=value", remedy="write --env NAME=VALUE")
    return {name: value for name, _, value in split}


def train_job(plan: Plan, launch: Launch) -> Manifest:
    """The TrainJob that runs the plan's ``finetune`` under torchrun, which reads its ranks from PET_* variables.

    The step's settings are an argument of its command, so that the manifest says everything about the run; its digest
    is an annotation, by which a later submission knows the same job.

    Raises:
        ConfigError: the plan has no such step, a path is not on the workspace, or the batch cannot be divided.
    """
    spec = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": launch.runtime},
        "trainer": {
            "image": launch.image,
            "command": ["torchrun", *_MODULE],
            "args": step_arguments(plan, launch.nodes * launch.processes),
            "numNodes": launch.nodes,
            "numProcPerNode": launch.processes,
            "resourcesPerNode": _resources(plan, launch),
            **({"env": _env(launch.env)} if launch.env else {}),
        },
    }
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TrainJob", "metadata": _metadata(launch, spec), "spec": spec}


def pytorch_job(plan: Plan, launch: Launch) -> Manifest:
    """The same job as kubeflow.org/v1 PyTorchJob, for clusters with the deprecated Training Operator.

    That operator tells each pod RANK, MASTER_ADDR and MASTER_PORT; which PET_* variables it sets depends on its
    version, so torchrun is told by flags.
    """
    ranks = ("--node-rank=$(RANK)", "--master-addr=$(MASTER_ADDR)", "--master-port=$(MASTER_PORT)")
    container = {
        "name": "pytorch",
        "image": launch.image,
        "command": ["torchrun", f"--nnodes={launch.nodes}", f"--nproc-per-node={launch.processes}", *ranks, *_MODULE],
        "args": step_arguments(plan, launch.nodes * launch.processes),
        "resources": _resources(plan, launch),
    }
    template = {"metadata": {"labels": LABELS}, "spec": worker_pod(container, launch.env)}
    counts = {"Master": 1, "Worker": launch.nodes - 1}
    spec = {
        "runPolicy": {"backoffLimit": RESTARTS, "schedulingPolicy": {"minAvailable": launch.nodes}},
        "pytorchReplicaSpecs": {
            role: {"replicas": count, "restartPolicy": "OnFailure", "template": template}
            for role, count in counts.items()
            if count
        },
    }
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": _metadata(launch, spec), "spec": spec}


def training_runtime() -> Manifest:
    """The ClusterTrainingRuntime that TrainJobs refer to: what a pod of ours may do, and that a gang restarts whole."""
    spec = {"restartPolicy": "Never", **worker_pod({"name": CONTAINER, "image": "likeness"}, {})}
    pod = {"metadata": {"labels": LABELS}, "spec": spec}
    job = {
        "name": CONTAINER,
        "template": {
            "metadata": {"labels": {f"{GROUP}/trainjob-ancestor-step": "trainer"}},
            # A pod that fails ends its Job; the JobSet then starts all nodes again, from the last checkpoint.
            "spec": {"backoffLimit": 0, "template": pod},
        },
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ClusterTrainingRuntime",
        "metadata": {"name": RUNTIME, "labels": {f"{GROUP}/framework": "torch"}},
        "spec": {
            "mlPolicy": {"numNodes": 1, "torch": {}},
            "template": {"spec": {"failurePolicy": {"maxRestarts": RESTARTS}, "replicatedJobs": [job]}},
        },
    }


MANIFESTS: dict[str, Callable[[Plan, Launch], Manifest]] = {"trainjob": train_job, "pytorchjob": pytorch_job}


def render(kind: str, plan: Plan, launch: Launch) -> str:
    """The manifest of that kind as YAML; raises UnknownNameError with suggestions."""
    if kind not in MANIFESTS:
        raise UnknownNameError(f"there is no manifest '{kind}'", remedy=did_you_mean(kind, MANIFESTS))
    return to_yaml(MANIFESTS[kind](plan, launch))


def to_yaml(manifest: Manifest) -> str:
    """YAML without anchors, in the order of the manifest."""
    # Through JSON: parts that a manifest uses twice would become anchors.
    return yaml.safe_dump(json.loads(json.dumps(manifest)), sort_keys=False, width=1000)


def step_arguments(plan: Plan, processes: int) -> list[str]:
    """Arguments of ``likeness`` that run ``finetune`` with the plan's settings, on paths below the workspace, as
    Kubernetes wants them.
    """
    node = plan.pipeline.node(STEP)
    config = plan.configs[node.name]
    if isinstance(config, FinetuneConfig) and config.batch % processes:
        raise ConfigError(
            f"a batch of {config.batch} cannot be divided among {processes} processes",
            remedy=f"make {STEP}.batch in {plan.params_file} a multiple of {processes}, or ask for fewer processes",
        )
    values = section(load_yaml(plan.params_file), node.name, str(plan.params_file))
    inputs = plan.pipeline.input_paths(plan.root, node, plan.sources)
    metrics = plan.pipeline.metrics_path(plan.root, node)
    bound = {**inputs, **plan.outputs(node)}
    for path in (*bound.values(), metrics):
        _check_on_workspace(path)
    arguments = [
        *("run", f"{node.spec.name}@{node.spec.version}"),
        *("--config", json.dumps(dict(values), sort_keys=True)),
        *(part for port, path in bound.items() for part in ("--bind", f"{port}={path}")),
        *("--metrics", str(metrics)),
    ]
    # Kubernetes fills in $(NAME) and reads $$ as a dollar.
    return [argument.replace("$", "$$") for argument in arguments]


def _check_on_workspace(path: Path) -> None:
    if ".." in path.parts or (path.is_absolute() and not path.is_relative_to(WORKSPACE)):
        raise ConfigError(
            f"{path} is not on the workspace that the job's pods share",
            remedy=f"copy it to the volume '{CLAIM}' and give its path from the volume's root",
        )


def _resources(plan: Plan, launch: Launch) -> Manifest:
    """What one node needs. Requests repeat the limits: Trainer 2.0 reads "no requests" as one process a node."""
    wanted: Resources = plan.pipeline.node(STEP).spec.resources
    gpus = wanted.gpu if launch.gpus is None else launch.gpus
    amounts = {
        "cpu": f"{wanted.cpu * launch.processes:g}",
        "memory": f"{wanted.memory_gb * launch.processes:g}G",
        **({GPU: str(gpus * launch.processes)} if gpus else {}),
    }
    return {"requests": amounts, "limits": amounts}


def _metadata(launch: Launch, spec: Manifest) -> Manifest:
    return {
        "name": launch.name,
        "namespace": launch.namespace,
        "labels": LABELS,
        "annotations": {DIGEST: digest_bytes(canonical_json(spec).encode())},
    }


def _env(values: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in values.items()]


def worker_pod(container: Mapping[str, Any], env: Mapping[str, str]) -> Manifest:
    """Pod spec within the restricted Pod Security Standard: no root, no token, nothing writable but the workspace,
    /tmp and shared memory.
    """
    mounts = {"workspace": WORKSPACE, "tmp": "/tmp", "shm": "/dev/shm"}
    ours = {
        "workingDir": WORKSPACE,
        # Caches go below HOME, which an image would place on its read-only root.
        "env": _env({"HOME": "/tmp", "PYTHONUNBUFFERED": "1", **env}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # The last lines of the log stay in the pod's status when the log itself is gone.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }
    return {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{**container, **ours}],
        "volumes": [
            {"name": "workspace", "persistentVolumeClaim": {"claimName": CLAIM}},
            {"name": "tmp", "emptyDir": {}},
            # NCCL and gloo move gradients through it; a container's own share is 64 MB.
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
