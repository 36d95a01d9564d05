"""Bundle to measurements: latency, hybrid quality, and the report. Never imports torch."""
