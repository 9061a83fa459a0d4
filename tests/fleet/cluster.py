"""Raylets as processes of this machine, each a node of its own with a folder of its own for bundles."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from collector.engines.process import _descendants, free_port
from tests.e2e.tools import until

RAY = Path(sys.executable).with_name("ray")
# What a node's death costs here: 3 s instead of 20 until the cluster knows of it.
_SETTINGS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_worker_niceness": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_raylet_start_wait_time_s": "90",
}


class Raylets:
    """A head and further nodes, of one CPU each, and two cards that Ray believes in."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._folder = folder
        self._short = Path(tempfile.mkdtemp(prefix="qc-"))  # sockets have short names
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.environment = {**_SETTINGS, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        port = self.address.rpartition(":")[2]
        try:
            self._start("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._short}")
            until(lambda: self._joined(0), 90)
            for number in range(1, nodes):
                self._start(f"--address={self.address}")
                until(lambda n=number: self._joined(n), 90)  # type: ignore[misc]
        except BaseException:
            self.close()
            raise

    def root(self, number: int) -> Path:
        """Where that node keeps bundles."""
        return self._folder / f"node-{number}"

    def _start(self, *arguments: str) -> None:
        number = len(self.nodes)
        env = {**os.environ, **self.environment, "QUANTCASE_FLEET_DIR": str(self.root(number))}
        command = [str(RAY), "start", *arguments, "--num-cpus=1", "--disable-usage-stats", "--block"]
        # Two cards of a type, as Ray would count them: it does not look whether they are there.
        command += ["--num-gpus=2", '--resources={"accelerator_type:H200": 1}', "--object-store-memory=100000000"]
        log = (self._folder / f"node-{number}.log").open("wb")
        self.nodes.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True))

    def _joined(self, number: int) -> bool:
        log = (self._folder / f"node-{number}.log").read_text("utf-8", "replace")
        assert self.nodes[number].poll() is None, log
        return "Ray runtime started" in log

    def kill(self, number: int) -> None:
        """kill -9 of all of a node at once: its raylet and its workers; what the workers started is not touched."""
        node = self.nodes[number]
        pids = [p for p in _descendants(node.pid) if _of_ray(p)]
        for pid in [node.pid, *pids]:
            _kill(pid)
        node.wait()

    def close(self) -> None:
        for node in reversed(self.nodes):
            family = _descendants(node.pid) if node.poll() is None else {}
            _kill(node.pid)
            for pid in family:
                _kill(pid)
            node.wait()
        shutil.rmtree(self._short, ignore_errors=True)


def _of_ray(pid: int) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"raylet" in line or b"ray::" in line or b"ray/" in line


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
