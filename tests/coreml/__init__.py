"""Core ML without a Mac: an interpreter of saved programs, and coremltools' own classes on top of it. Test support."""
