"""Several threads that share the rows, for teachers that wait for something else, such as a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pocketseq.examples import Example
from pocketseq_distill.labelling.labeller import Labeller, Outcome


def label_in_threads(examples: Sequence[Example], labeller: Labeller, threads: int) -> Iterator[list[Outcome]]:
    """Label row by row, so many at a time, and give what came of each as soon as it is there.

    After an error no more rows are begun; those under way, which may be paid for, are finished and given before it is raised; a
    teacher that failed makes no further request for them.

    Raises:
        PocketSeqError: what the labeller raises.
    """
    rows = iter(examples)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pocketseq-label")
    under_way: set[Future[list[Outcome]]] = set()
    failure: BaseException | None = None
    try:
        while True:
            while failure is None and len(under_way) < threads and (row := next(rows, None)) is not None:
                under_way.add(pool.submit(labeller, [row]))
            if not under_way:
                break
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                if (raised := future.exception()) is None:
                    yield future.result()
                failure = failure or raised
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure
