"""Published data sets: their splits as others have used them, their protocols of scoring, and tables of results beside theirs."""

from pocketseq_distill.published.corpus import PublishedSettings, build_published_corpus
from pocketseq_distill.published.files import DATA_VARIABLE, DataFile
from pocketseq_distill.published.tasks import PUBLISHED, PublishedTask

__all__ = ["DATA_VARIABLE", "PUBLISHED", "DataFile", "PublishedSettings", "PublishedTask", "build_published_corpus"]
