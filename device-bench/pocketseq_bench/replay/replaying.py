"""A session through a hybrid, once for each threshold."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, Final

import numpy as np

from pocketseq import Hybrid, PocketModel, Policy
from pocketseq.endpoint import Endpoint
from pocketseq.records import plain
from pocketseq.testing import Network, NetworkEndpoint, SimulatedClock
from pocketseq_bench.device import bundle_card, device_card
from pocketseq_bench.replay.clouds import KnowingCloud
from pocketseq_bench.replay.document import ReplayDocument, SessionCard, ThresholdRow
from pocketseq_bench.replay.editor import Editor, Request
from pocketseq_bench.replay.session import Keystroke, Session, check_session

ALWAYS: Final = 1.01
"""A threshold that no confidence reaches: the cloud is asked about everything."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """How a session is replayed."""

    thresholds: tuple[float, ...] = (0.0, 0.5, 0.7, 0.9, ALWAYS)
    """Besides the one that the bundle's calibration found."""
    network: Network = field(default=Network(latency_ms=250.0))
    """Injected between hybrid and cloud."""
    deadline_ms: float | None = 800.0
    """See ``Policy``."""
    accuracy: float = 0.9
    """Of the simulated cloud."""
    prompt_price: float | None = None
    """Of a million tokens read; None tells no cost."""
    completion_price: float | None = None
    """Of a million tokens written."""


def replay(
    session: Session,
    model: PocketModel,
    *,
    settings: ReplaySettings | None = None,
    endpoint: Endpoint | None = None,
    cloud: str = "",
    report: Callable[[str], None] | None = None,
) -> ReplayDocument:
    """Replay a session at several thresholds.

    Gaps between keys and the injected network are counted on a simulated clock; the local model really runs, and so does a real
    endpoint, each on top of that clock.

    Args:
        session: What somebody typed.
        model: The local model.
        settings: How.
        endpoint: What answers for the cloud; None simulates one that is right as often as the settings say.
        cloud: What it is, for people.
        report: Takes one line of progress.

    Raises:
        DataError: the session has not the fields of the model's template.
    """
    check_session(session, model.template)
    settings = settings or ReplaySettings()
    primary = model.template.primary
    calibrated = model.calibration is not None and model.calibration.feasible
    rows = []
    model.warm_up()
    for threshold in ([None] if calibrated else []) + list(settings.thresholds):
        if report is not None:
            report(
                f"threshold {'of the calibration' if threshold is None else f'{threshold:g}'}: {session.minutes:.1f} min of typing"
            )
        clock = SimulatedClock()
        knowing = KnowingCloud(accuracy=settings.accuracy, primary=primary)
        network = NetworkEndpoint(endpoint or knowing, settings.network, clock=clock, wait=clock.wait)
        # What is real takes its time on top of what is simulated.
        hybrid = Hybrid(model, network, _policy(threshold, settings), clock=_on_top_of(clock))
        editor = Editor(hybrid, clock, primary=primary, expect=knowing.expect)
        rows.append(_row(threshold, editor.play(session), session.keystrokes, settings))
    return ReplayDocument(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=bundle_card(model.manifest),
        variant=model.variant.label,
        device=device_card(),
        session=SessionCard(session.name, session.origin, len(session.keystrokes), round(session.minutes, 2), dict(session.typing)),
        cloud=cloud or (endpoint.url if endpoint else f"simulated, right in {100 * settings.accuracy:g}% of cases"),
        network=plain(settings.network),
        deadline_ms=settings.deadline_ms,
        prices=_prices(settings),
        simulated="Gaps between keys and the network's latency, loss and outages are simulated and counted; "
        + ("so are the cloud's answers. " if endpoint is None else "the cloud's answers and their own time are real. ")
        + "The local model's answers and times are real.",
        rows=tuple(rows),
    )


def _on_top_of(clock: SimulatedClock) -> Callable[[], float]:
    return lambda: clock() + time.monotonic()


def _policy(threshold: float | None, settings: ReplaySettings) -> Policy:
    # The waits between retries are real and move no simulated clock: one request has to do.
    once: dict[str, Any] = {"retries": 0} if "retries" in {each.name for each in fields(Policy)} else {}
    return Policy(mode="prefer_local", threshold=threshold, deadline_ms=settings.deadline_ms, **once)


def _prices(settings: ReplaySettings) -> dict[str, float]:
    if settings.prompt_price is None and settings.completion_price is None:
        return {}
    return {"prompt": settings.prompt_price or 0.0, "completion": settings.completion_price or 0.0}


def _row(threshold: float | None, requests: Sequence[Request], keys: Sequence[Keystroke], settings: ReplaySettings) -> ThresholdRow:
    seen = [request for request in requests if not request.cancelled]
    shown = [request for request in seen if request.shown]
    accepted = [request for request in shown if request.right]
    prices = _prices(settings)
    tokens = [(request.prompt_tokens, request.completion_tokens) for request in requests]
    cost = sum(read * prices["prompt"] + written * prices["completion"] for read, written in tokens) / 1e6 if prices else None
    saved = sum(request.saved_keys for request in accepted)

    def share(chosen: Sequence[Request], among: Sequence[Request]) -> float:
        return round(len(chosen) / len(among), 5) if among else 0.0

    took = [request.took_ms for request in seen] or [0.0]
    p50, p95 = np.percentile(took, (50, 95))
    return ThresholdRow(
        threshold=threshold,
        requests=len(requests),
        cancelled=share([request for request in requests if request.cancelled], requests),
        local=share([request for request in seen if request.source == "local"], seen),
        cloud=share([request for request in seen if request.source == "cloud"], seen),
        cache=share([request for request in seen if request.source == "cache"], seen),
        failures=sum(request.error is not None for request in requests),
        shown=share(shown, seen),
        shown_right=share(accepted, shown) if shown else None,
        exact_match=share([request for request in seen if request.right], seen),
        edit_similarity=round(fmean([request.similarity for request in seen] or [0.0]), 5),
        p50_ms=round(float(p50), 3),
        p95_ms=round(float(p95), 3),
        wait_p50_ms=round(float(np.median([request.debounce_ms + request.took_ms for request in seen] or [0.0])), 3),
        accepted=len(accepted),
        saved_keys=saved,
        saved_share=round(saved / len(keys), 5),
        asked=sum(request.asked for request in requests),
        bytes_sent=sum(request.bytes_sent for request in requests),
        cost=None if cost is None else round(cost, 6),
        samples=tuple(requests),
    )
