"""``report.json``: what a run found, for programs."""

from __future__ import annotations

from typing import Any, Final

from pocketseq_bench.report.findings import Findings

FORMAT: Final = 1


def report_document(findings: Findings) -> dict[str, Any]:
    """The report as JSON values. Shares are fractions in 0…1, times are milliseconds of one suggestion end to end on one thread."""
    hybrid = findings.hybrid
    return {
        "format": FORMAT,
        "task": findings.task,
        "rows": [
            {
                "name": model.name,
                "runtime": model.runtime,
                "precision": model.precision,
                "parameters": model.parameters,
                "size_bytes": model.size_bytes,
                "exact_match": model.quality["exact_match"],
                "edit_similarity": model.quality["edit_similarity"],
                "parses": model.quality["parses"],
                "latency_ms": {"p50": model.p50_ms, "p95": model.p95_ms},
                "n": model.n,
                **({"note": model.note} if model.note else {}),
            }
            for model in findings.models
        ],
        "hybrid": {
            "coverage": hybrid.coverage,
            "exact_match": hybrid.exact_match,
            "cloud_fraction": hybrid.cloud_fraction,
            "threshold": hybrid.threshold,
        },
        "parity": [dict(parity) for parity in findings.parity],
        "environment": dict(findings.environment),
        **({} if findings.gap is None else {"gap": dict(findings.gap)}),
    }
