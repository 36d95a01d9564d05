"""Tests of the published data sets."""
