"""Metrics, each a torchmetrics class with its functional form beside it; see docs/metrics.md."""
