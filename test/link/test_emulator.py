"""The emulated link, with plain UDP sockets."""

from __future__ import annotations

import json
import socket
import time

import pytest

from semhier_ros.link.emulate.emulator import IP_UDP_HEADERS, LinkEmulator, parse_link


class Ends:
    """A client and a server socket with an emulated link between them."""

    def __init__(self, up: str, down: str | None = None, **options):
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("127.0.0.1", 0))
        self.server.settimeout(1.0)
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.settimeout(1.0)
        back = None if down is None else parse_link(down)
        self.link = LinkEmulator(parse_link(up), back, forward_port=self.server.getsockname()[1], **options)

    def __enter__(self):
        self.link.start()
        self.client.connect(("127.0.0.1", self.link.listen_port))
        return self

    def __exit__(self, *exception):
        self.link.stop()
        self.server.close()
        self.client.close()

    def arrivals(self, wait=0.5):
        self.server.settimeout(wait)
        found = []
        try:
            while True:
                data = self.server.recv(65_536)
                found.append((time.monotonic(), data))
        except TimeoutError:
            return found


def test_both_directions_and_their_counters():
    with Ends("unlimited,20ms") as ends:
        begin = time.monotonic()
        ends.client.send(b"there")
        data, address = ends.server.recvfrom(100)
        ends.server.sendto(b"and back", address)
        assert ends.client.recv(100) == b"and back"
        assert time.monotonic() - begin >= 0.04
        assert data == b"there"
        time.sleep(0.05)
        assert (ends.link.up.delivered, ends.link.up.delivered_bytes) == (1, 5 + IP_UDP_HEADERS)
        assert (ends.link.down.delivered, ends.link.down.delivered_bytes) == (1, 8 + IP_UDP_HEADERS)


def test_rate_and_queue_bound():
    with Ends("80kbit,queue4kB") as ends:
        for _ in range(20):
            ends.client.send(bytes(500 - IP_UDP_HEADERS))
        found = ends.arrivals()
        assert len(found) == 8, "4,000 bytes of queue hold eight datagrams of 500"
        spacing = (found[-1][0] - found[0][0]) / 7
        assert spacing == pytest.approx(0.050, abs=0.008)
        assert ends.link.up.dropped_queue == 12


@pytest.mark.parametrize(("burst", "low", "high"), [(1, 1.0, 1.6), (4, 2.8, 5.5)])
def test_loss_share_and_burst_length(burst, low, high):
    with Ends(f"unlimited,20%,burst{burst},seed1", keep_log=True) as ends:
        for step in range(4000):
            ends.client.send(b"x")
            if step % 100 == 0:
                time.sleep(0.002)
        deadline = time.monotonic() + 5
        while ends.link.up.offered < 4000 and time.monotonic() < deadline:
            time.sleep(0.01)
        fates = [entry[2] is None for entry in ends.link.log]
    assert sum(fates) / len(fates) == pytest.approx(0.2, abs=0.04)
    runs = "".join("x" if lost else " " for lost in fates).split()
    assert low <= sum(map(len, runs)) / len(runs) <= high


def test_the_same_seed_gives_the_same_fates(tmp_path):
    fates = []
    for _ in range(2):
        with Ends("unlimited,30%,burst2,seed9", keep_log=True) as ends:
            for step in range(300):
                ends.client.send(str(step).encode())
                time.sleep(0.0002)
            ends.arrivals(0.1)
            ends.link.write_json(tmp_path / "log.json")
        log = json.loads((tmp_path / "log.json").read_text())
        assert log["up"]["offered"] == 300
        assert log["columns"] == ["direction", "seconds_in", "seconds_out", "ip_bytes", "cause"]
        fates.append([entry[4] for entry in log["datagrams"]])
    assert fates[0] == fates[1]
    assert "loss" in fates[0]


def test_a_run_meets_the_same_fates_whatever_went_before():
    fates = []
    for before in (0, 13):
        with Ends("unlimited,30%,burst2,seed9", keep_log=True) as ends:
            for step in range(before):
                ends.client.send(str(step).encode())
            if before:
                ends.arrivals(0.1)
            ends.link.rewind()
            for step in range(100):
                ends.client.send(str(step).encode())
                time.sleep(0.0002)
            ends.arrivals(0.1)
            log = ends.link.log
        assert [entry[1] < 0 for entry in log] == [True] * before + [False] * 100
        assert all(entry[2] is None or abs(entry[2] - entry[1]) < 0.5 for entry in log)
        fates.append([entry[4] for entry in log[before:]])
    assert fates[0] == fates[1]
    assert "loss" in fates[0]


def test_order_holds_under_jitter_and_breaks_by_reorder_only():
    for link, in_order in (("unlimited,5ms,jitter20ms", True), ("unlimited,20ms,reorder30%,seed2", False)):
        with Ends(link) as ends:
            for number in range(100):
                ends.client.send(str(number).encode())
                time.sleep(0.001)
            found = [int(data) for _, data in ends.arrivals(0.2)]
        assert len(found) == 100
        assert (found == sorted(found)) is in_order


def test_duplicates_outages_and_live_changes():
    with Ends("unlimited,duplicate100%") as ends:
        ends.client.send(b"twice")
        assert len(ends.arrivals(0.2)) == 2
        ends.link.set_profile(up=parse_link("unlimited"))
        ends.link.outage(0.3)
        ends.client.send(b"gone")
        assert ends.arrivals(0.35) == []
        ends.client.send(b"once")
        assert len(ends.arrivals(0.2)) == 1
        assert ends.link.up.dropped_outage == 1


def test_ports_are_checked():
    with pytest.raises(ValueError, match="forward_port must be 1 to 65535, not 0"):
        LinkEmulator(parse_link("64kbit"), forward_port=0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="cannot listen on udp"):
            LinkEmulator(parse_link("64kbit"), listen_port=port, forward_port=9)
