"""Several machines that share the rows, on Ray Data; the caller alone writes, so that no row is labelled twice."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from pocketseq.errors import LabellingError, MissingExtraError, TeacherError
from pocketseq.examples import Example
from pocketseq_distill.labelling.label import Label
from pocketseq_distill.labelling.labeller import Labeller, Missed, Outcome
from pocketseq_distill.memory import first_line

_THREADS: Final = ("StreamingExecutor", "iter_threaded", "ray-data-metadata-prefetch")
"""What the names of Ray Data's threads begin with that a call starts and that end after it."""
_LONGEST_WAIT_S: Final = 60.0
"""Seconds that each of them is waited for; what it asked for may take a teacher that long."""


class _RayWorker:
    """One worker of the cluster: loads the teacher once, then labels batches."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Rows as JSON in, outcomes as JSON out: what Arrow keeps as it is."""
        try:
            outcomes = self._labeller([Example(**json.loads(row)) for row in batch["row"]])
        except Exception as error:  # to Ray an error is a task to try again; to the caller it is the end
            return {"outcome": [json.dumps({"failed": f"{type(error).__name__}: {error}"})]}
        return {"outcome": [json.dumps(_plain(outcome)) for outcome in outcomes]}


def label_on_ray(pieces: Sequence[Sequence[Example]], labeller: Labeller, workers: int) -> Iterator[list[Outcome]]:
    """Label the rows on the Ray cluster that ``RAY_ADDRESS`` names, or on one that is started on this machine.

    Args:
        pieces: The rows, cut up; the largest piece tells how many go through a teacher at a time.
        labeller: Pickled into every worker, which loads its own teacher from the same path.
        workers: Workers that label side by side.

    Raises:
        MissingExtraError: Ray is not installed.
        TeacherError: the labeller failed in a worker.
        LabellingError: Ray failed, or there is no cluster; its own words are in the message.
    """
    # Ray reports its use to its makers otherwise; a thread that gathers for it ends the process if it wakes after the shutdown.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("cluster", error.name or "ray") from error
    started = not ray.is_initialized()
    if started:
        # On a machine of its own a cluster needs a processor beside those that the workers take, or nothing hands them rows.
        address = os.environ.get("RAY_ADDRESS")
        processors = None if address else max(workers + 1, os.cpu_count() or 1)
        try:
            ray.init(num_cpus=processors, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # an address that nobody answers at, one that is none, a machine that starts no process
            where = f"at RAY_ADDRESS = {address}" if address else "that can be started on this machine"
            raise LabellingError(
                f"expected a Ray cluster {where}, found: {first_line(error)}; start it, change RAY_ADDRESS, or share the rows by "
                "processes instead"
            ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the caller's own bar counts rows
    batch_rows = max(map(len, pieces))
    rows = ray.data.from_items(
        [{"row": json.dumps(asdict(example))} for piece in pieces for example in piece], override_num_blocks=len(pieces)
    )
    found = rows.map_batches(
        _RayWorker,
        fn_constructor_args=(labeller,),
        batch_size=batch_rows,
        compute=ray.data.ActorPoolStrategy(size=workers),
        # Ray shows a worker the accelerators that it asked for, and no other.
        num_gpus=min(1.0, int(10_000 * ray.cluster_resources().get("GPU", 0) / workers) / 10_000) or None,
    )
    try:
        for batch in found.iter_batches(batch_size=None, prefetch_batches=0):
            values = [json.loads(text) for text in batch["outcome"]]
            failures = [value["failed"] for value in values if "failed" in value]
            yield [_outcome(value) for value in values if "failed" not in value]
            if failures:
                raise TeacherError(f"expected answers from the teacher on every Ray worker, found {failures[0]}")
    except ray.exceptions.RayError as error:
        raise LabellingError(
            f"expected every Ray worker to label, found: {str(error).strip().splitlines()[-1]}; what was labelled is kept, "
            "and the same call goes on"
        ) from error
    finally:
        _await_threads()
        if started:
            ray.shutdown()


def _await_threads() -> None:
    """Wait until the threads that Ray Data runs for a call have ended; it waits two seconds for them itself, if that.

    One that asks Ray for something after its shutdown, be it ours or our caller's, ends the process without a word.
    """
    for thread in threading.enumerate():
        if thread.name.startswith(_THREADS):
            thread.join(_LONGEST_WAIT_S)


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {"label": outcome.to_json()} if isinstance(outcome, Label) else {"missed": asdict(outcome)}


def _outcome(value: dict[str, Any]) -> Outcome:
    return Label.from_json(value["label"]) if "label" in value else Missed(**value["missed"])
