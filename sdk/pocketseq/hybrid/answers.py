"""How a call is answered: whole, or as events that hand over from the local answer to the cloud's."""

from __future__ import annotations

from collections.abc import Generator

from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointError
from pocketseq.hybrid.ask import Answer
from pocketseq.hybrid.call import Call, endpoint_needed
from pocketseq.hybrid.events import Draft, Final, Replace
from pocketseq.results import Result
from pocketseq.suggestion import Suggestion


def answer(call: Call) -> Suggestion:
    """Answer a call whole.

    Raises:
        EndpointError: in the mode ``only_cloud``, where the cloud gave no usable answer.
    """
    if call.policy.mode == "only_cloud":
        if call.cloud is None:
            raise endpoint_needed()
        call.begin("ask")
        return only_cloud(call, call.wait())
    if call.policy.mode == "prefer_cloud":
        call.begin("ask")
    try:
        result = call.model.generate(call.source, deadline_s=call.deadline.left_s, on_gate=call.hear_gate)
    except BaseException:
        call.drop()
        raise
    decision = call.decide(result)
    if not decision.ask:
        return call.local(result, decision.reason, call.drop())
    late = call.begin_in_time("ask")
    return settled(call, result, decision.reason, late or call.wait())


def settled(call: Call, result: Result, reason: str, found: Answer) -> Suggestion:
    """The cloud's answer, or the local one where there is none."""
    if isinstance(found.outcome, EndpointError):
        return call.fallback(result, reason, found)
    return call.remote(found.outcome, reason, found, result)


def only_cloud(call: Call, found: Answer) -> Suggestion:
    """The cloud's answer.

    Raises:
        EndpointError: there is none.
    """
    if isinstance(found.outcome, Completion):
        return call.remote(found.outcome, "the mode is only_cloud", found, None)
    raise found.outcome


def events(call: Call) -> Generator[Draft | Replace | Final, None, None]:
    """Answer a call by events: the local answer at once, and the cloud's in its place where that is better.

    A cloud answer replaces what is shown at the first character in which it differs; one that agrees changes nothing.

    Raises:
        EndpointError: see ``answer``; after drafts where the cloud broke off.
    """
    shown = ""
    suggestion = None
    try:
        for event in _events(call):
            if isinstance(event, Final):
                suggestion = event.suggestion
                break
            shown = shown + event.text if isinstance(event, Draft) else event.text
            yield event
        assert suggestion is not None
        if shown != suggestion.text:
            yield Replace(suggestion.text)
        yield Final(suggestion)
    finally:
        if suggestion is None:
            call.drop()


def _events(call: Call) -> Generator[Draft | Replace | Final, None, None]:
    if call.policy.mode == "only_cloud":
        if call.cloud is None:
            raise endpoint_needed()
        call.begin("ask")
        yield Final(only_cloud(call, (yield from _cloud_pieces(call, ""))))
        return
    if call.policy.mode == "prefer_cloud":
        call.begin("ask")
    result = yield from _local_pieces(call)
    decision = call.decide(result)
    if not decision.ask:
        yield Final(call.local(result, decision.reason, call.drop()))
        return
    found = call.begin_in_time("ask")
    if found is None:
        found = yield from _cloud_pieces(call, result.text)
    yield Final(settled(call, result, decision.reason, found))


def _local_pieces(call: Call) -> Generator[Draft, None, Result]:
    pieces = call.model.stream(call.source, deadline_s=call.deadline.left_s, on_gate=call.hear_gate)
    try:
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                result: Result = end.value
                return result
            if piece:
                yield Draft(piece)
    finally:
        pieces.close()


def _cloud_pieces(call: Call, shown: str) -> Generator[Draft | Replace, None, Answer]:
    """Show the cloud's answer as it comes, once it differs from what is shown."""
    text, replaced = "", not shown
    while isinstance(news := call.next(), str):
        text += news
        if replaced:
            yield Draft(news)
        elif not shown.startswith(text):
            replaced = True
            yield Replace(text)
    return news
