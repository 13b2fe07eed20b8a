"""Metrics, statistics, the gate and the report."""
