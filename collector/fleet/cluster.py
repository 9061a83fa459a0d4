"""The boxes of a Ray cluster: probed, held whole, given orders, and let go. With connect.py all that knows Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from collector import __version__
from collector.errors import QuantcaseError
from collector.fleet import box as on_box
from collector.fleet.connect import connect, disconnect
from collector.fleet.mirror import Have, Piece
from collector.fleet.order import Ended, Facts, Told, Work
from collector.fleet.schedule import Spot

__all__ = ["Cluster", "Lost"]

_PROBE_S = 60.0
_HOLD_S = 20.0
_BUSY_S = 30.0  # a box that others use is asked again after so long
_TYPE = "accelerator_type:"


class Lost(Struct, frozen=True):
    """A task that ended without a word: its node died, or its worker was killed."""

    alive: bool  # the node still answers
    reason: str


class _Node(Struct):
    """A node of the cluster that can measure."""

    id: str
    facts: Facts
    cpus: int
    gpus: int
    types: tuple[str, ...]
    group: Any = None  # what holds it
    stream: Any = None  # the order that it carries out
    busy_until: float = 0.0


class Cluster:
    """A connection to Ray; use as a context manager. Boxes are named by their hash."""

    def __init__(self, address: str | None, fleet: str) -> None:
        self._ray, self._folder = connect(address)
        self._fleet = fleet
        self._nodes: dict[str, _Node] = {}  # by box
        self._seen: dict[str, str] = {}  # Ray's node -> box, or what is wrong with it
        self.refused: dict[str, str] = {}  # why nodes are not used

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._nodes):
            self.release(name)
        disconnect(self._ray, self._folder)

    # -- boxes ---------------------------------------------------------------------------------------------------

    def look(self) -> list[Spot]:
        """The boxes that are alive now. A node that joined is probed; one that died is forgotten once it is let go."""
        alive = {n["NodeID"]: n for n in self._ray.nodes() if n["Alive"]}
        for name in [b for b, n in self._nodes.items() if n.id not in alive and n.group is None]:
            del self._nodes[name]
        for node_id, node in alive.items():
            if node_id not in self._seen and node["Resources"].get("CPU", 0) >= 1:
                self._probe(node_id, node["Resources"], set(alive))
        now = time.monotonic()
        return [
            Spot(
                box=n.facts.box,
                profiles=n.facts.profiles,
                types=tuple(t.removeprefix(_TYPE) for t in n.types),
                free=n.group is None and n.busy_until <= now,
            )
            for n in self._nodes.values()
            if n.id in alive
        ]

    def _probe(self, node_id: str, resources: dict[str, float], alive: set[str]) -> None:
        gpus = int(resources.get("GPU", 0))
        mark = node_id if self._folder is None else f"local|{self._fleet}"  # a local node has a new id each time
        try:
            facts: Facts = self._ray.get(
                self._on(node_id, on_box.probe, self._fleet, mark, cards=gpus > 0), timeout=_PROBE_S
            )
        except (self._ray.exceptions.RayError, ModuleNotFoundError) as e:
            self._refuse(node_id, f"a node does not run the collector: {_last_line(e)}")
            return
        if facts.version != __version__:
            self._refuse(node_id, f"box {facts.box} has quantcase {facts.version}, here is {__version__}")
            return
        if (known := self._nodes.get(facts.box)) is not None and known.id != node_id:
            if known.id not in alive:
                return  # Ray was started anew on that box: its old self is forgotten first
            self._refuse(node_id, f"two nodes see the cards of box {facts.box}: one of them is used")
            return
        usual = {"CPU", "GPU", "memory", "object_store_memory"}
        types = tuple(k for k in resources if k not in usual and not k.startswith("node:"))
        self._seen[node_id] = facts.box
        self._nodes[facts.box] = _Node(node_id, facts, int(resources.get("CPU", 1)), gpus, types)

    def _refuse(self, node_id: str, why: str) -> None:
        self._seen[node_id] = why
        self.refused[node_id] = why

    def facts(self, name: str) -> Facts:
        return self._nodes[name].facts

    def cards(self, name: str) -> int:
        """GPUs of the box, all of which are held."""
        return self._nodes[name].gpus

    def hold(self, name: str) -> bool:
        """Take a whole box: no other work of this cluster comes between. False where others use it now."""
        from ray.util.placement_group import placement_group, remove_placement_group

        node = self._nodes[name]
        group = placement_group(
            [self._whole(node)], strategy="STRICT_PACK", bundle_label_selector=[{"ray.io/node-id": node.id}]
        )
        if group.wait(_HOLD_S):
            node.group = group
            return True
        remove_placement_group(group)
        node.busy_until = time.monotonic() + _BUSY_S
        return False

    def _whole(self, node: _Node) -> dict[str, float]:
        cards = {"GPU": float(node.gpus)} if node.gpus else {}
        name = self._accelerator_type(node)
        kind = {_TYPE + name: 0.001} if name else {}  # as Ray asks for it in a task of that `accelerator_type`
        return {"CPU": float(node.cpus), **cards, **kind}

    def _accelerator_type(self, node: _Node) -> str | None:
        return next((t.removeprefix(_TYPE) for t in node.types if t.startswith(_TYPE)), None)

    def release(self, name: str) -> None:
        """Let a box go."""
        from ray.util.placement_group import remove_placement_group

        node = self._nodes[name]
        node.stream = None
        if node.group is not None:
            group, node.group = node.group, None
            with contextlib.suppress(self._ray.exceptions.RayError):
                remove_placement_group(group)

    # -- orders --------------------------------------------------------------------------------------------------

    def measure(self, work: Work, have: Have) -> None:
        """Begin one order on a box that is held. What it tells comes out of `told`.

        All cards of the box go to the task, so that every variant finds the same ones; a variant's server takes as
        many as it needs, the first ones first, and servers side by side take further ones.
        """
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        node = self._nodes[work.box]
        strategy = PlacementGroupSchedulingStrategy(node.group, placement_group_bundle_index=0)
        remote = self._ray.remote(on_box.measure).options(
            num_cpus=node.cpus,
            num_gpus=node.gpus,
            accelerator_type=self._accelerator_type(node),
            num_returns="streaming",
            max_retries=0,  # what failed is decided on by the schedule, not by Ray
            scheduling_strategy=strategy,
            name=f"{work.bundle} {' '.join(work.variants)} {work.round}",
        )
        node.stream = remote.remote(work, dict(have))

    def told(self, timeout_s: float) -> Iterator[tuple[str, Told | Lost]]:
        """What boxes have told by now, each with its box; waits up to `timeout_s` for the first."""
        streams = {id(n.stream): (name, n) for name, n in self._nodes.items() if n.stream is not None}
        if not streams:
            time.sleep(timeout_s)
            return
        waiting = [n.stream for _, n in streams.values()]
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s, fetch_local=False)
        for stream in ready:
            name, node = streams[id(stream)]
            while node.stream is stream:
                yield name, self._next(node)
                if node.stream is not stream or not self._ray.wait([stream], timeout=0, fetch_local=False)[0]:
                    break

    def _next(self, node: _Node) -> Told | Lost:
        errors = self._ray.exceptions
        try:
            told: Told = self._ray.get(next(node.stream), timeout=_PROBE_S)
        except StopIteration:
            node.stream = None
            return Lost(True, "the task ended without a word")
        except errors.RayTaskError as e:
            node.stream = None
            return Lost(True, _last_line(e))
        except errors.RayError as e:
            node.stream = None
            return Lost(self._alive(node), f"the box was lost ({type(e).__name__})")
        if isinstance(told, Ended):
            stream, node.stream = node.stream, None
            with contextlib.suppress(StopIteration, errors.RayError):
                next(stream)  # until the task has returned: letting the box go would kill its worker
        return told

    def _alive(self, node: _Node) -> bool:
        """Ray may take a moment to know that a node is dead: one that answers a call lives."""
        try:
            self._ray.get(self._on(node.id, on_box.probe, self._fleet, node.id, cards=False), timeout=15)
        except (self._ray.exceptions.RayError, TimeoutError):
            return False
        return True

    def stop(self, name: str, bundle: str) -> None:
        """Ask what measures that bundle to end cleanly."""
        node = self._nodes[name]
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.get(self._on(node.id, on_box.stop, self._fleet, name, bundle), timeout=_PROBE_S)

    def fetch(self, name: str, bundle: str, have: Have) -> Iterator[Piece]:
        """What lies of a bundle on a box and not at home.

        Raises:
            QuantcaseError: the box was lost meanwhile.
        """
        stream = self._on(
            self._nodes[name].id, on_box.fetch, self._fleet, name, bundle, dict(have), num_returns="streaming"
        )
        try:
            for item in stream:
                yield self._ray.get(item, timeout=_PROBE_S)
        except self._ray.exceptions.RayError as e:
            raise QuantcaseError(
                f"box {name}: {bundle} could not be fetched: {_last_line(e)}", fix="--resume"
            ) from None

    def clear(self, name: str) -> None:
        """Remove the fleet's folder from a box.

        Raises:
            QuantcaseError: the box does not do that.
        """
        try:
            self._ray.get(self._on(self._nodes[name].id, on_box.clear, self._fleet, name), timeout=_PROBE_S)
        except self._ray.exceptions.RayError as e:
            raise QuantcaseError(f"box {name}: its copy of the fleet stays there: {_last_line(e)}") from None

    def _on(self, node_id: str, function: Any, *arguments: Any, num_returns: Any = 1, **named: Any) -> Any:
        """A short task on that very node, beside what holds it."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
        remote = self._ray.remote(function).options(
            num_cpus=0, max_retries=0, num_returns=num_returns, scheduling_strategy=pinned
        )
        return remote.remote(*arguments, **named)


def _last_line(e: BaseException) -> str:
    lines = [line for line in str(e).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(e).__name__
