"""Prefect as driver: one task per node, and a retraining flow that can be scheduled."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL

from likeness.core.errors import ConfigError
from likeness.core.pipeline import Node
from likeness.core.step import Metrics
from likeness.orchestration.drivers import run_with
from likeness.orchestration.plan import Plan, check_sources
from likeness.orchestration.profiles import load_profile
from likeness.orchestration.submit import Access, submit


@task(cache_policy=NO_CACHE)
def _run_node(plan: Plan, node: Node) -> Metrics:
    return plan.run(node)


def run_flow(plan: Plan) -> dict[str, Metrics]:
    """Run ``plan`` as a Prefect flow. A node whose inputs, config and version are as before is not run again.

    Prefect's own result cache stays off: ours is keyed by content and survives without a Prefect server.
    """
    check_sources(plan)

    @flow(name=f"likeness-{plan.pipeline.name}", description=plan.pipeline.summary, validate_parameters=False)
    def graph() -> dict[str, Metrics]:
        metrics = {}
        for node in plan.pipeline.topological():
            run = _run_node.with_options(name=node.name, description=node.spec.summary)
            metrics[node.name] = run(plan, node)
        return metrics

    return graph()


@flow(name="likeness-retrain", description="Bring the registered model up to date with the data.")
def retrain(driver: str = "dvc", profile: str = "portraits", host: str | None = None) -> str:
    """Retrain with DVC or in this process here, or with Kubeflow at ``host``; returns what was done or started."""
    return retrain_once(driver, profile, host)


def serve(driver: str, profile: str, host: str | None, cron: str) -> None:
    """Run :func:`retrain` on a schedule, until interrupted.

    Raises:
        ConfigError: no Prefect server is configured: a temporary one schedules nothing.
    """
    if PREFECT_API_URL.value() is None:
        raise ConfigError(
            "a schedule needs a Prefect server",
            remedy="start one (`prefect server start`) and set PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    parameters = {"driver": driver, "profile": profile, "host": host}
    retrain.serve(name=f"retrain-{profile}", cron=cron, parameters=parameters)


def retrain_once(driver: str, profile: str, host: str | None) -> str:
    """The retraining itself, without Prefect. The gate and registration inside the graph decide what is promoted.

    Raises:
        ConfigError: the driver kfp without a host.
    """
    if driver != "kfp":
        return run_with(driver, profile, None, None)
    if host is None:
        raise ConfigError("the driver kfp needs a server", remedy="pass --host URL")
    run = submit(
        Access(host=host),
        load_profile(profile).compiled,
        experiment="retrain",
        arguments={},
        run_name=f"retrain-{profile}",
    )
    return f"submitted run {run}"
