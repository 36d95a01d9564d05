"""Several processes that share the rows: the caller hands out pieces and alone writes, so that no row is labelled twice."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from pocketseq.commands import quiet_imports
from pocketseq.errors import CheckpointError, DataError, InputError, LabellingError, PocketSeqError, TeacherError
from pocketseq.examples import Example
from pocketseq_distill.labelling.labeller import Labeller, Outcome


@dataclass(slots=True)
class _Worker:
    """One process and the caller's end of the pipe to it."""

    process: BaseProcess
    pipe: Connection


def label_in_processes(pieces: Sequence[Sequence[Example]], labeller: Labeller, processes: int) -> Iterator[list[Outcome]]:
    """Label pieces of the rows side by side, and give what came of each as soon as it is there.

    A process that dies, for want of memory say, takes its piece with it, and so does an error; the others finish theirs, which are
    given, before that is raised. When the caller stops listening, or dies, the processes end.

    Args:
        pieces: The rows, cut up.
        labeller: Pickled into every process.
        processes: At most so many.

    Raises:
        TeacherError: the labeller cannot be pickled, or failed in a process in a way that is not this project's.
        LabellingError: a process died.
        PocketSeqError: what the labeller raised in a process.
    """
    try:
        packed = pickle.dumps(labeller)
    except Exception as error:  # whatever the objects in its way raise
        raise TeacherError(
            f"expected a teacher that other processes can load too, found: {error}; give it by its name or path, "
            "or label in one process"
        ) from error
    context = get_context("spawn")
    count = min(processes, len(pieces))
    threads = max(1, (os.cpu_count() or 1) // max(1, count))
    waiting = list(reversed(pieces))  # from the first on
    workers: list[_Worker] = []
    died: _Worker | None = None
    failure: PocketSeqError | None = None
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, packed, threads, len(workers)), daemon=True)
            process.start()
            theirs.close()  # so that the pipe ends when the process does
            workers.append(_Worker(process, ours))
        busy = list(workers)
        for worker in workers:
            _hand_out(worker, waiting.pop())
        while busy:
            ready = wait([worker.pipe for worker in busy])
            for worker in [worker for worker in busy if worker.pipe in ready]:
                try:
                    found = worker.pipe.recv()
                except (EOFError, OSError):
                    busy.remove(worker)
                    died = worker
                    worker.process.join()
                    continue
                if isinstance(found, PocketSeqError):
                    failure = failure or found
                else:
                    yield found
                if died is None and failure is None and waiting:
                    _hand_out(worker, waiting.pop())
                else:
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
    if failure is not None:
        raise failure
    if died is not None:
        raise LabellingError(
            f"expected {count} processes to label, found one that ended with {_ending(died.process)}; what was labelled is kept, "
            "and the same call goes on: with fewer processes, or a smaller batch_size, where memory ran out"
        )


def _accelerators() -> list[str]:
    """CUDA devices that this process may use, by what ``CUDA_VISIBLE_DEVICES`` calls them; found without loading what uses them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def _hand_out(worker: _Worker, piece: Sequence[Example]) -> None:
    """Give a worker its next piece; one that is gone is found when it is listened to."""
    with suppress(OSError):
        worker.pipe.send(piece)


def _ending(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _work(pipe: Connection, packed: bytes, threads: int, number: int) -> None:
    """Label whatever comes through the pipe until it closes; the caller alone answers Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # heard by a torch that is imported from here on
    if devices := _accelerators():  # processes take turns at them; left alone, all would crowd onto the first
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    quiet_imports()
    labeller: Labeller | None = None
    while True:
        try:
            piece = pipe.recv()
        except (EOFError, OSError):
            return
        found: list[Outcome] | PocketSeqError
        try:
            labeller = labeller or pickle.loads(packed)  # noqa: S301 - the caller's own
            found = labeller(piece)
        except (DataError, InputError, TeacherError, CheckpointError) as error:
            found = type(error)(str(error))  # without its cause, which may not travel
        except Exception as error:  # goes to the caller, who cannot see this process
            found = TeacherError(f"expected answers from the teacher, found {type(error).__name__}: {error}")
        try:
            pipe.send(found)
        except OSError:
            return
