"""What a benchmark is going to measure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketseq.bundle import Bundle, open_bundle
from pocketseq.errors import VariantNotFoundError
from pocketseq.files import digest
from pocketseq.manifest import Variant
from pocketseq.records import plain
from pocketseq_bench.device import Pinning, bundle_card, choose_cores, device_card
from pocketseq_bench.document import BundleCard, DeviceCard
from pocketseq_bench.measuring.inputs import BenchInputs, default_inputs
from pocketseq_bench.measuring.settings import BenchSettings
from pocketseq_bench.source import source_text

_METHOD: Final = 3
"""Way of measuring; what an interrupted run measured in an earlier one does not count."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A variant with a number of threads."""

    variant: Variant
    threads: int
    pinning: Pinning

    @property
    def label(self) -> str:
        """Name for people; that of the document's row."""
        return self.variant.label + (f" ×{self.threads}" if self.threads > 1 else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured on what, where and how."""

    source: str
    """What ``PocketModel.load`` takes."""
    bundle: BundleCard
    primary: str
    """Field of which a repair is an answer."""
    configurations: tuple[Configuration, ...]
    inputs: BenchInputs
    order: tuple[int, ...]
    """Numbers of the inputs, shuffled, the same in every run."""
    settings: BenchSettings
    device: DeviceCard

    @classmethod
    def make(cls, source: str | Path, *, inputs: BenchInputs | None, settings: BenchSettings) -> Plan:
        """Look into the bundle and at the machine.

        Raises:
            BundleError: the bundle cannot be used.
            VariantNotFoundError: none of its variants has a runtime and precision that were asked for.
            DataError: no inputs were given, and the package has none for the bundle's task.
        """
        with open_bundle(source) as bundle:
            manifest = bundle.manifest
        variants = _chosen(bundle, settings)
        inputs = inputs or default_inputs(manifest.task)
        order = list(range(len(inputs.rows)))
        random.Random(0).shuffle(order)
        # All on the same processors: on a busy machine it matters more which these are than what runs there.
        pinning = choose_cores(max(settings.threads))
        return cls(
            source=source_text(source),
            bundle=bundle_card(manifest),
            primary=manifest.template.primary,
            configurations=tuple(
                Configuration(variant, threads, pinning) for threads in dict.fromkeys(settings.threads) for variant in variants
            ),
            inputs=inputs,
            order=tuple(order),
            settings=settings,
            device=device_card(),
        )

    @property
    def fingerprint(self) -> str:
        """Of all that the measurements depend on but chance."""
        return digest(plain([_METHOD, self.bundle, self.inputs.card, self.settings, self.device]))

    @property
    def least_rounds(self) -> int:
        """Rounds after which measuring may end."""
        return max(self.settings.least_rounds, self.settings.passes * self.rounds_a_pass)

    @property
    def rounds_a_pass(self) -> int:
        """Rounds in which every input is asked once."""
        return -(-len(self.order) // self.settings.turn_rows)

    def turn(self, number: int, *, rows: int | None = None) -> list[int]:
        """Inputs of one turn, by their numbers.

        Args:
            number: Of the round.
            rows: How many, from the start again at the end; None for those of a round, the last of a pass shorter than the
                others, so that a pass asks every input exactly once.
        """
        if rows is None:
            place = number % self.rounds_a_pass * self.settings.turn_rows
            return list(self.order[place : place + self.settings.turn_rows])
        return [self.order[(number * rows + place) % len(self.order)] for place in range(rows)]

    def opening(self, configuration: Configuration) -> Mapping[str, object]:
        """The request that opens a configuration in a fresh process."""
        variant = configuration.variant
        return {
            "source": self.source,
            "variant": {"runtime": variant.runtime, "precision": variant.precision, "threads": configuration.threads},
            "cores": list(configuration.pinning.cores),
            "rows": [dict(row.fields) for row in self.inputs.rows],
        }


def _chosen(bundle: Bundle, settings: BenchSettings) -> list[Variant]:
    manifest = bundle.manifest
    chosen = [
        variant
        for variant in sorted(manifest.variants, key=lambda variant: -variant.size_bytes)
        if (not settings.runtimes or variant.runtime in settings.runtimes)
        and (not settings.precisions or variant.precision in settings.precisions)
    ]
    there = [variant.label for variant in manifest.variants]
    lacking = sorted(set(settings.runtimes) - {variant.runtime for variant in manifest.variants})
    lacking += sorted(set(settings.precisions) - {variant.precision for variant in manifest.variants})
    if lacking or not chosen:
        wanted = ", ".join(lacking) or "one with that runtime and that precision"
        raise VariantNotFoundError(
            f"bundle {manifest.name!r}: expected variants with {wanted}, found {', '.join(there)}; "
            f"ask for these or export the others{bundle.elsewhere}"
        )
    return chosen
