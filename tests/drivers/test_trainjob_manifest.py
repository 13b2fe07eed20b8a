"""The manifests: what is committed, that no pod may do more than it must, and that the command runs."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from likeness.cli import app
from likeness.core.errors import ConfigError, UnknownNameError
from likeness.core.io import read_json
from likeness.orchestration.components import IMAGE
from likeness.orchestration.drivers import plan_of
from likeness.orchestration.plan import Plan
from likeness.orchestration.trainjob_manifest import (
    CONTAINER,
    DIGEST,
    LABELS,
    Launch,
    parse_env,
    pytorch_job,
    render,
    train_job,
    training_runtime,
)
from tiny_finetune import SMALL, finetune_inputs, finetune_preferences

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests/golden/trainjob"
INFRA = REPOSITORY / "infra"
TWO_BY_FOUR = Launch("golden", nodes=2, processes=4, env={"NCCL_DEBUG": "WARN"})
# Kind -> the Kubernetes client's own model of it.
MODELS = {
    "Namespace": "V1Namespace",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "ServiceAccount": "V1ServiceAccount",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
    "NetworkPolicy": "V1NetworkPolicy",
    "Job": "V1Job",
}
Pod = dict[str, Any]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(REPOSITORY)
    return plan_of("production", None, None)


@pytest.mark.parametrize("kind", ["trainjob", "pytorchjob"])
def test_the_rendered_manifest_is_the_committed_one(plan: Plan, kind: str) -> None:
    """On a deliberate change, write the new text into the golden file; the diff is the review."""
    assert render(kind, plan, TWO_BY_FOUR) == (GOLDEN / f"{kind}.yaml").read_text("utf-8")


def test_an_unknown_kind_is_named(plan: Plan) -> None:
    with pytest.raises(UnknownNameError, match="trianjob") as caught:
        render("trianjob", plan, TWO_BY_FOUR)
    assert "did you mean 'trainjob'" in caught.value.remedy


# What a node gets.


@pytest.mark.parametrize(
    ("launch", "amounts"),
    [
        (Launch("a"), {"cpu": "2", "memory": "8G", "nvidia.com/gpu": "1"}),
        (Launch("a", nodes=2, processes=4), {"cpu": "8", "memory": "32G", "nvidia.com/gpu": "4"}),
        (Launch("a", processes=2, gpus=0), {"cpu": "4", "memory": "16G"}),
    ],
)
def test_a_node_has_the_steps_resources_for_each_process(plan: Plan, launch: Launch, amounts: dict[str, str]) -> None:
    trainer = train_job(plan, launch)["spec"]["trainer"]
    assert trainer["resourcesPerNode"] == {"requests": amounts, "limits": amounts}
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (launch.nodes, launch.processes)


@pytest.mark.parametrize(("nodes", "replicas"), [(1, {"Master": 1}), (4, {"Master": 1, "Worker": 3})])
def test_a_pytorch_job_has_one_master_among_its_nodes(plan: Plan, nodes: int, replicas: dict[str, int]) -> None:
    spec = pytorch_job(plan, Launch("a", nodes=nodes))["spec"]
    assert {role: replica["replicas"] for role, replica in spec["pytorchReplicaSpecs"].items()} == replicas
    assert spec["runPolicy"]["schedulingPolicy"]["minAvailable"] == nodes


# The digest.


@pytest.mark.parametrize(
    "change",
    [
        {"image": "other"},
        {"nodes": 2},
        {"processes": 2},
        {"gpus": 0},
        {"runtime": "other"},
        {"env": {"NCCL_DEBUG": "INFO"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_run_changes_the_digest(plan: Plan, change: dict[str, Any]) -> None:
    assert digest(train_job(plan, Launch("a", **change))) != digest(train_job(plan, Launch("a")))


def test_the_digest_follows_the_params_and_nothing_else(plan: Plan, tmp_path: Path) -> None:
    text = plan.params_file.read_text("utf-8")
    same, changed = tmp_path / "same.yaml", tmp_path / "changed.yaml"
    same.write_text("# a comment\n" + text, "utf-8")
    changed.write_text(text.replace("recipe: id_aligner_lora", "recipe: id_aligner_lora\n  steps: 7"), "utf-8")
    before = digest(train_job(plan, Launch("a")))
    assert digest(train_job(plan_of("production", same, None), Launch("b", namespace="c"))) == before
    assert digest(train_job(plan_of("production", changed, None), Launch("a"))) != before


def digest(manifest: dict[str, Any]) -> str:
    return str(manifest["metadata"]["annotations"][DIGEST])


# Refused before anything is submitted.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "Upper"}, "--name"),
        ({"name": "-dash"}, "--name"),
        ({"name": "a" * 47}, "at most 46"),
        ({"nodes": 0}, "--nodes"),
        ({"processes": 0}, "--processes"),
        ({"gpus": -1}, "--gpus"),
        ({"env": {"PET_NNODES": "2"}}, "PET_"),
        ({"env": {"A-B": "2"}}, "underscores"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_here(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Launch(**{"name": "a", **options})
    assert said in caught.value.remedy


def test_the_longest_name_still_fits_into_the_name_of_a_pod() -> None:
    assert len(Launch("a" * 46).name + "-node-0-999-abcde") == 63


def test_a_batch_that_cannot_be_divided_is_refused(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="a batch of 8 cannot be divided among 6 processes") as caught:
        train_job(plan, Launch("a", nodes=2, processes=3))
    assert "profiles/production/params.yaml a multiple of 6" in caught.value.remedy


@pytest.mark.parametrize(
    ("root", "fits"), [("build/x", True), ("/workspace/x", True), ("/home/me/x", False), ("../x", False)]
)
def test_every_path_has_to_be_on_the_shared_volume(plan: Plan, root: str, fits: bool) -> None:
    moved = plan_of("production", None, Path(root))
    if fits:
        assert f"lora={root}/finetune/lora" in train_job(moved, Launch("a"))["spec"]["trainer"]["args"]
        return
    with pytest.raises(ConfigError, match="is not on the workspace") as caught:
        train_job(moved, Launch("a"))
    assert "likeness-workspace" in caught.value.remedy


def test_a_pipeline_without_the_step_is_refused(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="has no node 'finetune'"):
        train_job(plan_of("embedded", None, None), Launch("a"))


def test_variables_are_pairs() -> None:
    assert parse_env(["A=b=c", "D="]) == {"A": "b=c", "D": ""}
    with pytest.raises(ConfigError, match="NAME=value"):
        parse_env(["A"])


# What a pod may do.


def pods() -> Iterator[Any]:
    job = pytorch_job(plan_of("production", REPOSITORY / "profiles/production/params.yaml", None), TWO_BY_FOUR)
    for role, replica in job["spec"]["pytorchReplicaSpecs"].items():
        yield pytest.param(replica["template"], id=f"pytorchjob-{role}")
    (replicated,) = training_runtime()["spec"]["template"]["spec"]["replicatedJobs"]
    yield pytest.param(replicated["template"]["spec"]["template"], id="runtime")
    launcher = yaml.safe_load((INFRA / "launcher.yaml").read_text("utf-8"))
    yield pytest.param(launcher["spec"]["template"], id="launcher")


PODS = list(pods())


def violations(pod: Pod) -> list[str]:
    """What the restricted Pod Security Standard (Kubernetes 1.31) and our own rules find in a pod spec."""
    found = []
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("runAsUser") in (None, 0):
        found.append("runs as root")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("seccomp")
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("host namespaces")
    allowed = {"persistentVolumeClaim", "emptyDir"}
    if any(not (set(volume) - {"name"} <= allowed) for volume in pod.get("volumes", [])):
        found.append("volumes")
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("escalation")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("capabilities")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append("writable root")
        if set(own) - {"allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem"}:
            found.append("more than that")
    return found


@pytest.mark.parametrize("template", PODS)
def test_every_pod_keeps_to_the_restricted_standard(template: Pod) -> None:
    assert violations(template["spec"]) == []


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (("securityContext", "runAsNonRoot"), False, "runs as root"),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "seccomp"),
        (("hostNetwork",), True, "host namespaces"),
        (("volumes",), [{"name": "h", "hostPath": {"path": "/"}}], "volumes"),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), True, "escalation"),
        (("containers", 0, "securityContext", "capabilities"), {"add": ["SYS_ADMIN"]}, "capabilities"),
        (("containers", 0, "securityContext", "readOnlyRootFilesystem"), False, "writable root"),
        (("containers", 0, "securityContext", "privileged"), True, "more than that"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_check_sees_each_violation(path: tuple[Any, ...], value: Any, found: str) -> None:
    pod = copy.deepcopy(PODS[0].values[0]["spec"])
    place = pod
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert violations(pod) == [found]


@pytest.mark.parametrize("template", PODS)
def test_only_the_launcher_has_a_token_and_all_can_write_to_tmp(template: Pod) -> None:
    pod = template["spec"]
    launcher = template["metadata"]["labels"]["app.kubernetes.io/component"] == "launcher"
    assert pod["automountServiceAccountToken"] is launcher
    assert pod["serviceAccountName"] == ("likeness-launcher" if launcher else "likeness-trainer")
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["tmp"] == "/tmp"
    assert {"name": "tmp", "emptyDir": {}} in pod["volumes"]
    assert {"name": "HOME", "value": "/tmp"} in pod["containers"][0]["env"]


# What is applied to a cluster.


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text("utf-8")))


def base() -> list[dict[str, Any]]:
    listed = documents(INFRA / "base/kustomization.yaml")[0]["resources"]
    return [found for name in listed for found in documents(INFRA / "base" / name)]


def test_the_base_lists_every_file_beside_it() -> None:
    listed = set(documents(INFRA / "base/kustomization.yaml")[0]["resources"])
    assert listed == {path.name for path in (INFRA / "base").glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.parametrize(
    "document",
    [found for found in [*base(), *documents(INFRA / "launcher.yaml")] if found["kind"] in MODELS],
    ids=lambda found: f"{found['kind']}-{found['metadata'].get('name', '')}",
)
def test_every_field_is_one_that_the_kubernetes_api_has(document: dict[str, Any]) -> None:
    """The client's models drop what the API does not know: nothing may be missing after a round trip."""
    assert through_the_client(document, MODELS[document["kind"]]) == document


@pytest.mark.parametrize("template", PODS)
def test_every_field_of_a_pod_is_one_that_the_kubernetes_api_has(template: Pod) -> None:
    assert through_the_client(template, "V1PodTemplateSpec") == template
    typo = {**template, "spec": {**template["spec"], "automountServiceAccountTokens": False}}
    assert through_the_client(typo, "V1PodTemplateSpec") == template


def through_the_client(document: dict[str, Any], model: str) -> Any:
    from kubernetes.client import ApiClient

    client = ApiClient()
    return client.sanitize_for_serialization(client._ApiClient__deserialize(document, model))


def test_nothing_may_talk_but_for_what_is_named() -> None:
    policies = {found["metadata"]["name"]: found["spec"] for found in base() if found["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    trainers = [
        (name, rule)
        for name, spec in policies.items()
        if spec["podSelector"].get("matchLabels", {}).items() <= LABELS.items()
        for rule in spec.get("egress", [])
    ]
    assert [name for name, _ in trainers] == ["trainers-among-themselves", "dns"]
    assert all(rule["to"] for _, rule in trainers)
    assert {port["port"] for port in policies["dns"]["egress"][0]["ports"]} == {53}
    assert [name for name, spec in policies.items() if "ingress" in spec] == ["trainers-among-themselves"]


def test_runtime_claim_account_and_namespace_are_those_the_job_names(plan: Plan) -> None:
    kinds = {(found["kind"], found["metadata"]["name"]): found for found in base()}
    job = train_job(plan, Launch("a"))
    runtime = kinds["ClusterTrainingRuntime", job["spec"]["runtimeRef"]["name"]]
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == [CONTAINER]
    assert ("PersistentVolumeClaim", pod["volumes"][0]["persistentVolumeClaim"]["claimName"]) in kinds
    account = kinds["ServiceAccount", pod["serviceAccountName"]]
    assert account["metadata"]["namespace"] == job["metadata"]["namespace"] == "likeness"
    assert not [b for b in base() if b["kind"] == "RoleBinding" and b["subjects"][0]["name"] == "likeness-trainer"]


def test_the_launcher_job_runs_this_version_and_a_command_that_there_is() -> None:
    (container,) = documents(INFRA / "launcher.yaml")[0]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE
    program, group, name, *options = container["command"]
    assert program == "likeness"
    assert parsed([group, name], options)["profile"] == "production"


def parsed(path: list[str], arguments: list[str]) -> dict[str, Any]:
    """The options as the command line understands them; nothing is run."""
    command: Any = get_command(app)
    for name in path:
        command = command.commands[name]
    return dict(command.make_context(path[-1], list(arguments)).params)


# The command.


def test_the_command_is_one_that_the_command_line_accepts(plan: Plan) -> None:
    trainer = train_job(plan, TWO_BY_FOUR)["spec"]["trainer"]
    assert trainer["command"] == ["torchrun", "-m", "likeness.cli"]
    name, *arguments = as_kubernetes_runs(trainer["args"])
    options = parsed([name], arguments)
    node = plan.pipeline.node("finetune")
    assert options["step"] == f"finetune@{node.spec.version}"
    assert {bound.partition("=")[0] for bound in options["bind"]} == {*node.bind, *node.spec.outputs}


def test_dollars_reach_the_program_as_they_are(plan: Plan, tmp_path: Path) -> None:
    """Kubernetes replaces $(HOME) in arguments and reads two dollars as one."""
    params = yaml.safe_load(plan.params_file.read_text("utf-8"))
    params["sources"]["encoder"] = "models/$(HOME)$$x"
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(params), "utf-8")
    given = train_job(plan_of("production", file, None), Launch("a"))["spec"]["trainer"]["args"]
    assert "encoder=models/$$(HOME)$$$$x" in given
    assert "encoder=models/$(HOME)$$x" in as_kubernetes_runs(given)


def as_kubernetes_runs(arguments: list[str]) -> list[str]:
    return [argument.replace("$$", "$") for argument in arguments]


@pytest.mark.slow
def test_the_command_trains_as_a_pod_would(
    sd15_folder: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node of one process on the tiny files, with the variables that Trainer's torch plug-in sets."""
    inputs = finetune_inputs(tmp_path / "inputs", sd15_folder, clip_folder)
    monkeypatch.chdir(REPOSITORY)
    params = yaml.safe_load(Path("profiles/production/params.yaml").read_text("utf-8"))
    params["finetune"] = {**SMALL, "recipe": "denoising_lora"}
    params["sources"] |= {name: f"models/{name}" for name in ("base_model", "encoder", "faces")}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    place(tmp_path / "models", {name: inputs[name] for name in ("base_model", "encoder", "faces")})
    place(tmp_path / "build/split", {name: inputs[name] for name in ("references", "train")})
    place(tmp_path / "build/train_reward", {"reward": inputs["reward"]})
    finetune_preferences(tmp_path / "build/mine_preferences/preferences")
    trainer = train_job(plan_of("production", tmp_path / "params.yaml", Path("build")), Launch("a"))["spec"]["trainer"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = {"NNODES": "1", "NPROC_PER_NODE": "1", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    program = str(Path(sys.executable).with_name(trainer["command"][0]))
    subprocess.run(
        [program, *trainer["command"][1:], *as_kubernetes_runs(trainer["args"])],
        cwd=tmp_path,
        env={**os.environ, **{f"PET_{name}": str(value) for name, value in ranks.items()}},
        check=True,
    )
    assert (tmp_path / "build/finetune/lora/pytorch_lora_weights.safetensors").is_file()
    assert read_json(tmp_path / "build/finetune/metrics.json")["steps"] == SMALL["steps"]


def place(folder: Path, paths: dict[str, Path]) -> None:
    folder.mkdir(parents=True)
    for name, path in paths.items():
        (folder / name).symlink_to(path)
