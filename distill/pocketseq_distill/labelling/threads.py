"""Several threads that share the rows, for teachers that wait for something else, such as a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pocketseq.examples import Example
from pocketseq_distill.labelling.labeller import Labeller, Outcome


def label_in_threads(examples: Sequence[Example], labeller: Labeller, threads: int) -> Iterator[list[Outcome]]:
    """Label row by row, so many at a time, and give what came of each as soon as it is there.

    Raises:
        PocketSeqError: what the labeller raises; what was given until then is kept.
    """
    rows = iter(examples)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pocketseq-label")
    under_way: set[Future[list[Outcome]]] = set()
    try:
        while True:
            while len(under_way) < threads and (row := next(rows, None)) is not None:
                under_way.add(pool.submit(labeller, [row]))
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            failure: BaseException | None = None
            for future in done:
                if (raised := future.exception()) is None:
                    yield future.result()
                failure = failure or raised
            if failure is not None:
                raise failure
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
