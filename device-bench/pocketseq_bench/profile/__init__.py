"""Where the time of a suggestion goes: by stage, by kind of operator, and what of it is the SDK's own."""

from pocketseq_bench.profile.findings import profile
from pocketseq_bench.profile.markdown import profile_markdown

__all__ = ["profile", "profile_markdown"]
