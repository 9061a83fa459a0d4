"""To Ray and back: a cluster that is there, or a local one that ends with the fleet."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from collector.errors import QuantcaseError, UsageFault

__all__ = ["connect", "disconnect"]

_REACH_S = 10.0


def connect(address: str | None) -> tuple[Any, Path | None]:
    """Ray, connected to that cluster (`auto`: this node's); without an address to a local one, whose folder is told.

    Raises:
        UsageFault: an address that is none.
        QuantcaseError: Ray is not installed, or no cluster is there.
    """
    _settle(local=address is None)
    try:
        import ray
    except ImportError:
        raise QuantcaseError("`collect fleet` needs Ray", fix="pip install 'quantcase[fleet]'") from None
    _reachable(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    folder = None
    if address is None:
        folder = Path(tempfile.mkdtemp(prefix="qc-ray-"))  # a short name: sockets lie in it
        options |= {"num_cpus": os.cpu_count() or 1, "include_dashboard": False, "_temp_dir": str(folder)}
    try:
        ray.init(address=address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as e:
        _remove(folder)
        why = " ".join(str(e).split())[:200]
        fix = "is it running (`ray status`), and is it of the same version?"
        raise QuantcaseError(f"no Ray cluster at {address or 'this machine'}: {why}", fix=fix) from None
    return ray, folder


def disconnect(ray: Any, folder: Path | None) -> None:
    """A local Ray ends; a cluster lives on."""
    ray.shutdown()
    _remove(folder)


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _reachable(address: str | None) -> None:
    """Ray itself would try for many minutes.

    Raises:
        UsageFault: not HOST:PORT and not `auto`.
        QuantcaseError: nothing listens there.
    """
    if address is None or address == "auto":
        return
    if address.startswith("ray://"):
        raise UsageFault(
            f"--ray {address} is Ray's client protocol, which carries no streams",
            fix="run this on a node of the cluster, with --ray auto",
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageFault(
            f"--ray {address} is no address", fix="HOST:PORT of the cluster's head, or auto on a node of it"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except (OSError, OverflowError) as e:
        raise QuantcaseError(
            f"no Ray cluster at {address}: {e}", fix="start one: ray start --head --port=6379"
        ) from None


def _settle(*, local: bool) -> None:
    """Ray reads its settings when it is imported, and hands them to what it starts."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}  # the schedule handles them
    if local:
        # Workers at the priority of a single run, and no killing of what loads a large model.
        os.environ |= {"RAY_worker_niceness": "0", "RAY_memory_monitor_refresh_ms": "0"}
        # Whoever reaches a Ray port without a token may run anything.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
