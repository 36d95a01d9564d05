"""Training data: code suggestions out of the standard library that every Python installation carries, or the user's pairs."""

from pocketseq_distill.corpus.given import PairsSettings, build_pairs_corpus
from pocketseq_distill.corpus.library import LibrarySettings, build_library_corpus
from pocketseq_distill.corpus.splits import Corpus
from pocketseq_distill.corpus.tasks import TASKS, Task

__all__ = ["TASKS", "Corpus", "LibrarySettings", "PairsSettings", "Task", "build_library_corpus", "build_pairs_corpus"]
