"""The machine under measurement: what it tells, and what it says where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from pocketseq_bench.device import EnergyMeter, LoadMeter, choose_cores, cool_down, device_card, drop_pages, machine_state, pin
from pocketseq_bench.device.processes import available_bytes, peak_bytes, resident_bytes
from pocketseq_bench.row import Reading


@pytest.fixture
def without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with the SDK alone."""
    monkeypatch.setitem(sys.modules, "psutil", None)


def test_the_card_names_machine_and_versions_and_nobody() -> None:
    """No host or user name."""
    card = device_card()
    assert card.logical_cores >= 1
    assert card.python in sys.version
    assert {"pocketseq", "numpy", "onnxruntime"} <= set(card.libraries)
    assert os.uname().nodename not in repr(card) if hasattr(os, "uname") and os.uname().nodename not in ("vm", "") else True


@pytest.mark.usefixtures("without_psutil")
def test_without_psutil_there_are_reasons_instead_of_numbers() -> None:
    """Nothing raises, and each null says what would mend it."""
    card, state, load = device_card(), machine_state(), LoadMeter()
    assert card.physical_cores is None
    told = [state.frequency_mhz, load.steal(), load.others(1.0), card.power_mode]
    assert [reading.value for reading in told] == [None] * 4
    assert all('pip install "pocketseq[bench]"' in reading.reason for reading in told)
    for reading in (resident_bytes(), peak_bytes(), state.temperature_c):
        assert reading.value is not None or reading.reason
    assert available_bytes() is None or available_bytes() > 0  # type: ignore[operator]


def test_memory_is_read_the_same_with_and_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ways to one number."""
    with_it = resident_bytes().value
    monkeypatch.setitem(sys.modules, "psutil", None)
    without = resident_bytes().value
    assert with_it is not None
    assert without is None or abs(with_it - without) < 0.2 * with_it


def test_the_peak_is_that_of_the_process_itself() -> None:
    """Not of the one that started it, which has trained a model, say, and is larger by far."""
    held = bytearray(b"x") * (400 << 20)
    program = "from pocketseq_bench.device.processes import peak_bytes; print(peak_bytes().value or 0)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 0 <= int(told) < len(held)


def test_dropped_pages_are_counted(tmp_path: Path) -> None:
    """A file just written and synced can be dropped from the page cache without privileges, where the system knows how."""
    path = tmp_path / "weights.bin"
    with path.open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    dropped = drop_pages([path])
    assert dropped.reason
    assert dropped.value is None or 0 <= dropped.value <= 1
    assert path.read_bytes()  # still there


def test_pinning_holds_to_processors_that_there_are() -> None:
    """As many as asked for, or none with the reason."""
    chosen = choose_cores(1)
    assert len(chosen.cores) == 1 or chosen.reason.startswith("not pinned")
    too_many = choose_cores(10_000)
    assert too_many.cores == ()
    assert "not pinned" in too_many.reason
    assert pin(()) == ""
    if hasattr(os, "sched_getaffinity"):
        before = os.sched_getaffinity(0)
        try:
            assert pin(chosen.cores) == ""
            assert os.sched_getaffinity(0) == set(chosen.cores)
        finally:
            os.sched_setaffinity(0, before)
    assert pin([10_000]).startswith("not pinned")


def test_threads_have_cores_of_their_own_while_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads of one core share what computes: the sibling of a processor that was chosen comes after all other cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16, 24)), raising=False)
    monkeypatch.setattr("pocketseq_bench.device.pinning.PROCESSORS", tmp_path)
    for number in range(16, 24):
        topology = tmp_path / f"cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{number - number % 2}-{number - number % 2 + 1}\n", encoding="ascii")
        (tmp_path / f"cpu{number}/cpu_capacity").write_text("1024" if number in {18, 19, 20, 21} else "800", encoding="ascii")
    assert [choose_cores(count).cores for count in (1, 2, 5)] == [(21,), (19, 21), (17, 19, 20, 21, 23)]
    for topology in tmp_path.glob("cpu*/topology/*"):
        topology.unlink()
    assert choose_cores(2).cores == (20, 21)


def rapl(root: Path, microjoules: int) -> Path:
    domain = root / "powercap/intel-rapl:0"
    domain.mkdir(parents=True, exist_ok=True)
    (domain / "max_energy_range_uj").write_text("1000000", encoding="ascii")
    (domain / "energy_uj").write_text(str(microjoules), encoding="ascii")
    core = root / "powercap/intel-rapl:0:0"  # part of the package: not counted twice
    core.mkdir(exist_ok=True)
    (core / "energy_uj").write_text("999", encoding="ascii")
    return root


def test_energy_is_what_the_counters_rose_by(tmp_path: Path) -> None:
    """0.3 J for ten suggestions are 30 mJ each; a counter that starts over is no negative energy."""
    meter = EnergyMeter(root=rapl(tmp_path, 600_000))
    meter.start()
    rapl(tmp_path, 900_000)
    meter.stop()
    assert meter.per_item_mj(10) == Reading(pytest.approx(30.0), "RAPL, whole package, idle power included")
    meter.start()
    rapl(tmp_path, 100_000)
    meter.stop()
    assert meter.per_item_mj(10).value == pytest.approx(50.0)


def test_a_discharging_battery_stands_in_for_counters(tmp_path: Path) -> None:
    """Current times voltage where it does not tell its power."""
    battery = tmp_path / "power_supply/BAT0"
    battery.mkdir(parents=True)
    for name, text in {"status": "Discharging\n", "current_now": "500000", "voltage_now": "12000000"}.items():
        (battery / name).write_text(text, encoding="ascii")
    meter = EnergyMeter(root=tmp_path)
    assert meter.readable
    assert "battery" in meter.reason
    (battery / "status").write_text("Full\n", encoding="ascii")
    assert not EnergyMeter(root=tmp_path).readable


def test_a_device_without_the_sensor_says_so(tmp_path: Path) -> None:
    """Null, with the reason."""
    meter = EnergyMeter(root=tmp_path)
    meter.start()
    meter.stop()
    assert meter.per_item_mj(3) == Reading(None, "no RAPL counters and no discharging battery found")


def test_cooling_down_waits_until_it_is_as_cool_as_before() -> None:
    """Three degrees above are cool enough; a time limit ends it; without a sensor nothing waits."""
    readings, slept = iter([70.0, 60.0, 53.0]), []
    assert cool_down(50.0, limit_s=60, read=lambda: Reading(next(readings)), sleep=slept.append) == 2.0
    assert slept == [1.0, 1.0]
    assert cool_down(50.0, limit_s=3, read=lambda: Reading(90.0), sleep=slept.append) == 3.0
    assert cool_down(None, limit_s=60, read=lambda: Reading(90.0), sleep=slept.append) == 0.0


def test_what_others_do_is_a_share_of_the_processors() -> None:
    """Work that is declared as one's own is not counted as theirs."""
    meter = LoadMeter()
    sum(number for number in range(300_000))
    others = meter.others(own_s=1e6)
    assert others.value == 0.0
    assert 0 <= (meter.others(own_s=0.0).value or 0.0) <= 1


def test_stolen_time_is_no_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 s of all processors 30 were ours, 10 another program's, 20 the hypervisor's, and in 40 nothing ran."""
    times = namedtuple("times", ("user", "system", "idle", "iowait", "steal", "guest"))  # as psutil tells them on Linux
    readings = [times(1, 1, 1, 1, 1, 0), times(36, 6, 31, 11, 21, 5)]
    monkeypatch.setattr("psutil.cpu_times", lambda: readings[0])
    meter = LoadMeter()
    monkeypatch.setattr("psutil.cpu_times", lambda: readings[1])
    assert meter.others(own_s=30).value == pytest.approx(0.1)
