"""The drivers: CLI, DVC, Kubeflow Pipelines and Prefect run the same steps. The only importers of those tools."""
