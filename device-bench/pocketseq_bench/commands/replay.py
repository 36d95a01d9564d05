"""``pocketseq bench replay``: an editing session through a hybrid."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketseq.commands import Command
from pocketseq.errors import InputError

if TYPE_CHECKING:
    from pocketseq.endpoint import Endpoint
    from pocketseq.testing import Outage
    from pocketseq_bench.replay.session import Session


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq bench replay``."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a directory or .pocketseq file, or the name of a packaged bundle")
    parser.add_argument("--session", metavar="FILE", type=Path, help="a recorded session, JSONL (default: a synthetic typist)")
    parser.add_argument(
        "--source", metavar="FILE.py", type=Path, help="what the synthetic typist writes (default: the package's rows)"
    )
    parser.add_argument("--lines", metavar="N", type=int, default=80, help="lines that it writes (default: 80)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of its gaps and slips (default: 0)")
    parser.add_argument("--save-session", metavar="FILE", type=Path, help="keep the synthetic session, as JSONL")
    parser.add_argument("--runtime", help="of the local model (default: the bundle's first)")
    parser.add_argument("--precision", help="of the local model (default: the bundle's first)")
    parser.add_argument(
        "--thresholds", metavar="T[,…]", type=_numbers, help="beside the calibrated one (default: 0,0.5,0.7,0.9,1.01)"
    )
    parser.add_argument("--teacher", metavar="CHECKPOINT", type=Path, help="served here as the cloud (default: a simulated cloud)")
    parser.add_argument(
        "--endpoint", metavar="URL", help="an OpenAI-compatible endpoint as the cloud; text then leaves this machine"
    )
    parser.add_argument("--endpoint-model", metavar="NAME", help="name of the model there")
    parser.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the endpoint's key")
    parser.add_argument("--accuracy", metavar="SHARE", type=float, default=0.9, help="of the simulated cloud (default: 0.9)")
    parser.add_argument("--latency-ms", metavar="MS", type=float, default=250.0, help="median, injected (default: 250)")
    parser.add_argument("--loss", metavar="SHARE", type=float, default=0.0, help="requests that are lost, injected (default: 0)")
    parser.add_argument(
        "--outage", metavar="FROM-TO", type=_outage, action="append", default=[], help="seconds of the session without a network"
    )
    parser.add_argument("--deadline-ms", metavar="MS", type=float, default=800.0, help="of one suggestion (default: 800)")
    parser.add_argument("--prices", metavar="IN,OUT", type=_numbers, help="of a million tokens read and written")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="for replay.json, .md and .html")


def run(args: Namespace) -> int:
    """Replay, print the table and write the reports."""
    from pocketseq.model import PocketModel
    from pocketseq.testing import Network
    from pocketseq_bench.replay.replaying import ReplaySettings, replay
    from pocketseq_bench.report.replay_report import replay_table, write_replay_reports

    if args.prices is not None and len(args.prices) != 2:
        raise InputError(f"--prices: expected two numbers such as 0.15,0.6, found {len(args.prices)}")
    prompt, completion = args.prices or (None, None)
    network = Network(latency_ms=args.latency_ms, loss=args.loss, outages=tuple(args.outage))
    settings = ReplaySettings(
        **({} if args.thresholds is None else {"thresholds": args.thresholds}),
        network=network,
        deadline_ms=args.deadline_ms,
        accuracy=args.accuracy,
        prompt_price=prompt,
        completion_price=completion,
    )
    with PocketModel.load(args.bundle, runtime=args.runtime, precision=args.precision) as model, _cloud(args) as endpoint:
        session = _session(args, model.manifest.task, model.template.primary)
        name = "" if endpoint is None else f"{args.teacher.name}, served on this machine" if args.teacher else args.endpoint
        document = replay(session, model, settings=settings, endpoint=endpoint, cloud=name, report=_to_stderr)
    print(replay_table(document))
    if args.output is not None:
        write_replay_reports(args.output, document)
        print(f"\n{args.output / 'replay.html'} shows all of it, {args.output / 'replay.json'} is for programs.")
    return 0


def _session(args: Namespace, task: str, primary: str) -> Session:
    from pocketseq_bench.measuring import default_inputs
    from pocketseq_bench.replay.session import read_session, write_session
    from pocketseq_bench.replay.typist import lines_of_file, lines_of_rows, type_lines

    if args.session is not None:
        return read_session(args.session)
    if args.source is not None:
        lines, name = lines_of_file(args.source, count=args.lines), args.source.name
    else:
        lines, name = lines_of_rows(default_inputs(task).rows, primary=primary, count=args.lines), f"held-out lines of {task}"
    session = type_lines(lines, primary=primary, name=name, seed=args.seed)
    if args.save_session is not None:
        write_session(args.save_session, session)
    return session


@contextmanager
def _cloud(args: Namespace) -> Iterator[Endpoint | None]:
    """The endpoint that was named, or none."""
    if args.teacher is None and args.endpoint is None:
        yield None
        return
    import tempfile

    from pocketseq.cloud import CloudEndpoint
    from pocketseq_bench.served import served

    if args.teacher is not None:
        with (
            tempfile.TemporaryDirectory(prefix="pocketseq-") as folder,
            served(args.teacher, log=Path(folder) / "serve.log") as server,
            CloudEndpoint(server.url, model=server.model) as endpoint,
        ):
            yield endpoint
        return
    if args.endpoint_model is None:
        raise InputError("--endpoint: expected --endpoint-model with the name of the model there, found none")
    with CloudEndpoint(args.endpoint, model=args.endpoint_model, api_key_env=args.api_key_env) as endpoint:
        yield endpoint


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"expected numbers such as 0.5,0.7, found {text!r}") from None


def _outage(text: str) -> Outage:
    from pocketseq.testing import Outage

    try:
        start, _, stop = text.partition("-")
        return Outage(float(start), float(stop))
    except ValueError:
        raise InputError(f"--outage: expected seconds such as 60-90, found {text!r}") from None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


COMMAND: Final = Command(
    name="bench replay",
    summary="an editing session through a hybrid: who answers, how soon, how usefully",
    configure=configure,
    run=run,
)
