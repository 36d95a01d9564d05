"""The machine under measurement: what it is, how warm and how busy it is; whatever it cannot tell is null with a reason."""

from pocketseq_bench.device.card import bundle_card, device_card
from pocketseq_bench.device.energy import EnergyMeter
from pocketseq_bench.device.load import LoadMeter
from pocketseq_bench.device.pagecache import drop_pages
from pocketseq_bench.device.pinning import Pinning, choose_cores, pin
from pocketseq_bench.device.sensors import cool_down, machine_state

__all__ = [
    "EnergyMeter",
    "LoadMeter",
    "Pinning",
    "bundle_card",
    "choose_cores",
    "cool_down",
    "device_card",
    "drop_pages",
    "machine_state",
    "pin",
]
