"""A profile for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketseq.report.figures import share
from pocketseq_bench.report.bench_table import markdown_table

_FEW: Final = 0.02
"""Share of a graph below which kinds of operators are told together."""

_START: Final = {
    "python": "importing from the standard library",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "tokenizers": "tokenizers",
    "pocketseq": "pocketseq",
    "load": "loading: manifest and hashes",
    "open": "opening tokenizer and graphs",
    "answer": "the first answer",
}


def profile_markdown(found: Mapping[str, Any]) -> str:
    """Tables of the stages and of each graph's operators, and what the processor could do.

    Args:
        found: What ``profile`` gave.
    """
    stages, processor, inputs = found["stages_ms"], found["processor"], found["inputs"]
    whole = stages["suggestion"]
    names = {"encode": "encoder", "decode": "decoder, called by the SDK"}
    rows = [(label, f"{stages[name]:.2f}", share(stages[name] / whole)) for name, label in names.items()]
    if found["format"] > 1:  # too small in the first
        rows.append(("of all this the SDK itself, for text never seen", f"{stages['sdk']:.2f}", share(stages["sdk_share"])))
    lines = [markdown_table(("stage", "ms", "of a suggestion"), [("a suggestion", f"{whole:.2f}", ""), *rows])]
    start = found["start_ms"]
    total = sum(start.values())
    rows = [(label, f"{start[name]:.0f}", share(start[name] / total)) for name, label in _START.items()]
    lines += ["", markdown_table(("a fresh process, its modules compiled", "ms", "share"), rows)]
    if "floor_ms" in found:  # versions of before did not measure it
        lines += ["", _starting(found["floor_ms"], found["opening"])]
    for graph, title in (("encode", "`encode`"), ("greedy", "`greedy`")):
        heading = (title, "nodes", "share", "10⁹ products a second")
        lines += ["", markdown_table(heading, _rows(found["operators"][graph]))]
    # Versions of before did not tell.
    timed = f", the stages medians over the last {inputs['timed_rows']}, which follow the warm-up" if "timed_rows" in inputs else ""
    where, at_best = found["environment"], processor["int8_products_per_s"] / 1e9
    about = (
        f"`{found['bundle']}`, {found['variant']}, one thread of {where['processor'] or where['machine']}; "
        f"{inputs['rows']} inputs of {inputs['mean_source_tokens']:.0f} tokens and answers of {inputs['mean_answer_tokens']:.1f} "
        f"on average{timed}. A product of 8 bits alone reaches {at_best:.0f}·10⁹ a second on this processor: at that rate the "
        f"{processor['encoder_products'] / 1e6:.0f}·10⁶ of the encoder take {processor['encoder_ms_at_best']:.2f} ms."
    )
    if found["output_layer_share"] is not None:
        layer = share(found["output_layer_share"])
        about += f" The output layer takes {layer} of the decoder."
    if (shortlist := found.get("shortlist")) and shortlist["ratio"]:
        about += (
            f" With one of {shortlist['tokens']:,} tokens encoder and decoder were {shortlist['ratio']:.3f} times as fast: "
            "the most that a shortlist could bring."
        )
    return "\n".join([*lines, "", about])


def _starting(floor: Mapping[str, float], opening: Mapping[str, float]) -> str:
    """How near a start is to what its libraries take alone, and what a cache of graphs would spare of it."""
    whole, by_hand = floor["pocketseq"], floor["by_hand"]
    kept = ""
    if "pocketseq_kept" in floor:  # versions of before had no such cache
        kept = (
            f" The SDK opens them in {opening['sdk_ms']:.1f} ms, with `graph_cache` in {opening['kept_ms']:.1f} ms, from "
            f"{opening['kept_bytes'] / 1e3:.0f} kB beside the weights that ship; a fresh process then takes "
            f"{floor['pocketseq_kept']:.0f} ms."
        )
    return (
        f"From nothing to the first answer, with nothing watching the imports: {whole:.0f} ms. An interpreter alone takes "
        f"{floor['python']:.0f} ms, with numpy {floor['numpy']:.0f} ms; onnxruntime and tokenizers without the SDK, the graphs run "
        f"once by hand from files that nobody verified, {by_hand:.0f} ms ({share(by_hand / whole)}). Opening the two graphs takes "
        f"{opening['shipped_ms']:.1f} ms; from optimised copies {opening['optimised_ms']:.1f} ms; from copies whose weights lie as "
        f"the kernels want them {opening['laid_out_ms']:.1f} ms, {opening['laid_out_bytes'] / 1e6:.1f} MB instead of "
        f"{opening['shipped_bytes'] / 1e6:.1f}, whose hashes take {opening['laid_out_verify_ms']:.1f} ms instead of "
        f"{opening['shipped_verify_ms']:.1f}.{kept}"
    )


def _rows(operators: list[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    large = [one for one in operators if one["share"] >= _FEW]
    rest = [one for one in operators if one["share"] < _FEW]
    rows: list[tuple[str, ...]] = [
        (
            one["kind"],
            str(one["nodes"]),
            share(one["share"]),
            f"{one['products'] / one['ms'] / 1e6:.0f}" if one["products"] else "",
        )
        for one in large
    ]
    if rest:
        rows.append(("others", str(sum(one["nodes"] for one in rest)), share(sum(one["share"] for one in rest)), ""))
    return rows
