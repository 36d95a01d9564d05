"""The published tasks: their files, their splits, and how a row becomes an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pocketseq.template import Field, Template
from pocketseq_distill.published.files import DataFile

Part: TypeAlias = Literal["train", "dev", "test"]
"""A split as it was published."""

PARTS: Final[tuple[Part, ...]] = ("train", "dev", "test")

ProtocolName: TypeAlias = Literal["word-errors", "code-bleu", "caption-bleu", "code-match", "line-repair", "whole-answers"]


@dataclass(frozen=True, slots=True)
class PublishedTask:
    """One task with published splits, rows and results."""

    name: str
    origin: str
    """Where people get the data, at which version, and under which licence."""
    files: tuple[DataFile, ...]
    """Input and answer of ``train``, ``dev`` and ``test``; one file for both where a row is a line of two columns, one pair of
    files for all where the splits follow the order of lines."""
    rows: tuple[int, int, int]
    """Rows of ``train``, ``dev`` and ``test``."""
    template: Template
    max_new_tokens: int
    """Longest answer in tokens, end token included."""
    protocol: ProtocolName
    """How it is scored."""


def rows_of(task: PublishedTask, lines: Sequence[Sequence[str]]) -> dict[Part, list[tuple[str, str]]]:
    """Pairs of input and answer by published split.

    Args:
        task: The task.
        lines: Lines of ``task.files``, in their order.
    """
    if len(task.files) == len(PARTS):
        parts = [[(source, target) for source, target in (line.split("\t") for line in part)] for part in lines]
    elif len(task.files) == 2 * len(PARTS):
        parts = [list(zip(*lines[index : index + 2], strict=True)) for index in range(0, len(lines), 2)]
    else:
        whole = list(zip(*lines, strict=True))
        parts = [whole[sum(task.rows[:index]) : sum(task.rows[: index + 1])] for index in range(len(PARTS))]
    return dict(zip(PARTS, parts, strict=True))


def _one_field(name: str, *, max_tokens: int, instruction: str) -> Template:
    return Template(fields=(Field(name=name, max_tokens=max_tokens, truncate="right"),), primary=name, instruction=instruction)


_DJANGO: Final = "https://raw.githubusercontent.com/odashi/ase15-django-dataset/c37fa281ced0de16aa7868415522905f8380686e/django/"
_CODEXGLUE: Final = "https://raw.githubusercontent.com/microsoft/CodeXGLUE/main/Code-Code/code-to-code-trans/data/"
_SIGMORPHON: Final = "https://raw.githubusercontent.com/sigmorphon/2021-task1/821bcdece5a47820872215969f275004b0abe80c/data/high/"


def _file(folder: str, name: str, rows: int, sha256: str, base: str | None = None) -> DataFile:
    return DataFile(name=f"{folder}/{name}", rows=rows, sha256=sha256, url=None if base is None else base + name)


PUBLISHED: Final[dict[str, PublishedTask]] = {
    task.name: task
    for task in (
        PublishedTask(
            name="g2p-en-us",
            origin="github.com/sigmorphon/2021-task1 at 821bcde, data/high (CC BY-SA 3.0)",
            files=(
                _file(
                    "g2p_eng_us",
                    "eng_us_train.tsv",
                    33_344,
                    "bbe76f57ee799ef9094b1ed1fecf8861e754ac57c6aa4db7d5b18892c5401f7f",
                    _SIGMORPHON,
                ),
                _file(
                    "g2p_eng_us",
                    "eng_us_dev.tsv",
                    4_168,
                    "dcce99504c5f8a00ebf13499aa4d4c2b7fc37614b65127c98aa871855e77080e",
                    _SIGMORPHON,
                ),
                _file(
                    "g2p_eng_us",
                    "eng_us_test.tsv",
                    4_168,
                    "726192932a69a7197348ee64898613e94968234ce426cfc67d984baf5ddd317c",
                    _SIGMORPHON,
                ),
            ),
            rows=(33_344, 4_168, 4_168),
            template=_one_field(
                "word", max_tokens=48, instruction="Answer with the American English pronunciation in IPA, symbols apart."
            ),
            max_new_tokens=48,
            protocol="word-errors",
        ),
        PublishedTask(
            name="java-cs",
            origin="github.com/microsoft/CodeXGLUE at ac74a62, Code-Code/code-to-code-trans/data (Data_LICENCE there)",
            files=(
                _file(
                    "java_cs",
                    "train.java-cs.txt.java",
                    10_295,
                    "397c44e7a0ad250849231a3beeb255ea54078e1cb62cf13359893d474025cb90",
                    _CODEXGLUE,
                ),
                _file(
                    "java_cs",
                    "train.java-cs.txt.cs",
                    10_295,
                    "80013b5b5c7e973df52adec4944b895eaaee0944f09ab6179084631a15d36b7a",
                    _CODEXGLUE,
                ),
                _file(
                    "java_cs",
                    "valid.java-cs.txt.java",
                    499,
                    "5cf92447fd81e126c7d791527f71d16dbcb91d3aa4aafda5c7d9d5c30d75a204",
                    _CODEXGLUE,
                ),
                _file(
                    "java_cs",
                    "valid.java-cs.txt.cs",
                    499,
                    "513c430d61901a90895b22fb235c532dbdc26b84db9d825e1d04a5856a97aec1",
                    _CODEXGLUE,
                ),
                _file(
                    "java_cs",
                    "test.java-cs.txt.java",
                    1_000,
                    "8e4c9db2467622c119366a89aa0ca798b5f72c11433e3ac3080df21e0e4e06f6",
                    _CODEXGLUE,
                ),
                _file(
                    "java_cs",
                    "test.java-cs.txt.cs",
                    1_000,
                    "7a863a53cba15473d44ef2f7c99096370a204d4c1a54cc3d81c59d4a305756af",
                    _CODEXGLUE,
                ),
            ),
            rows=(10_295, 499, 1_000),
            template=_one_field("java", max_tokens=384, instruction="Answer with the same method in C#, on one line."),
            max_new_tokens=384,
            protocol="code-bleu",
        ),
        PublishedTask(
            name="multi30k-en-de",
            origin="github.com/multi30k/dataset at a3d2e0d, data/task1/tok (no licence stated; research use)",
            files=(
                _file(
                    "multi30k",
                    "train.lc.norm.tok.en",
                    29_000,
                    "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
                ),
                _file(
                    "multi30k",
                    "train.lc.norm.tok.de",
                    29_000,
                    "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
                ),
                _file("multi30k", "val.lc.norm.tok.en", 1_014, "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec"),
                _file("multi30k", "val.lc.norm.tok.de", 1_014, "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00"),
                _file(
                    "multi30k",
                    "test_2016_flickr.lc.norm.tok.en",
                    1_000,
                    "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
                ),
                _file(
                    "multi30k",
                    "test_2016_flickr.lc.norm.tok.de",
                    1_000,
                    "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
                ),
            ),
            rows=(29_000, 1_014, 1_000),
            template=_one_field(
                "english", max_tokens=80, instruction="Answer with the German caption, lowercased and tokenised as Moses does."
            ),
            max_new_tokens=80,
            protocol="caption-bleu",
        ),
        PublishedTask(
            name="django",
            origin="github.com/odashi/ase15-django-dataset at c37fa28, django (MIT; Django's lines BSD-3-Clause)",
            files=(
                _file("django", "all.anno", 18_805, "86b38c7bf6ffe2882d4603f799e92f48ddaab8a7d9b2af41bba923e59b41800a", _DJANGO),
                _file("django", "all.code", 18_805, "d20b345fd3cdcf8d54b9cd123b3de4078f8f9a3c6bfc9fed9cd215bc857f99db", _DJANGO),
            ),
            rows=(16_000, 1_000, 1_805),
            template=_one_field("description", max_tokens=128, instruction="Answer with the one line of Python that does this."),
            max_new_tokens=128,
            protocol="code-match",
        ),
    )
}
"""Tasks by name."""
