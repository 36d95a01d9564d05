"""``report.json``: what a run found, for programs."""

from __future__ import annotations

from typing import Any, Final

from pocketseq_bench.report.findings import Findings
from pocketseq_bench.report.measures import hybrid_measure, measures_of, of_hybrid, value_of

FORMAT: Final = 1


def report_document(findings: Findings) -> dict[str, Any]:
    """The report as JSON values. Shares are fractions in 0…1, times are milliseconds of one suggestion end to end on one thread.

    ``scores`` holds what the task is judged by, the measure that decides first; BLEU and chrF are fractions too.
    """
    hybrid, measures, common = findings.hybrid, measures_of(findings), hybrid_measure(findings)
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
                "scores": [
                    {"name": measure.name, "value": value_of(findings, model, measure), "better": measure.better}
                    for measure in measures
                ],
                **({"note": model.note} if model.note else {}),
            }
            for model in findings.models
        ],
        "hybrid": {
            "coverage": hybrid.coverage,
            "exact_match": hybrid.exact_match,
            "cloud_fraction": hybrid.cloud_fraction,
            "threshold": hybrid.threshold,
            "scores": [{"name": common.name, "value": of_hybrid(hybrid, common), "better": common.better}],
            **({"note": hybrid.note} if hybrid.note else {}),
        },
        "parity": [dict(parity) for parity in findings.parity],
        "environment": dict(findings.environment),
        **({} if findings.table is None else {"table": dict(findings.table)}),
        **({} if findings.gap is None else {"gap": dict(findings.gap)}),
    }
