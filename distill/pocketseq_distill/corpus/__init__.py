"""Training data: code suggestions out of the standard library that every Python installation carries."""

from pocketseq_distill.corpus.build import Corpus, CorpusSettings, build_corpus

__all__ = ["Corpus", "CorpusSettings", "build_corpus"]
