"""Breaks the heap of a balancer behind its back, so that its own check can be seen to find that.

The native structs are mirrored from balancer.pxd and heap.pxd; `core_of` fails if they have changed.
"""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_int, c_int32, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any

WORKERS_MAX = 64


class _Node(ctypes.Structure):
    _fields_ = (
        ("picked_tick", c_uint64),
        ("in_flight", c_uint32),
        ("weight", c_uint32),
        ("max_conns", c_uint32),
        ("phantom", c_uint32),
        ("named", c_uint32),
        ("tier", c_uint16),
        ("fading", c_uint16),
    )


class _Entry(ctypes.Structure):
    _fields_ = (("picked_tick", c_uint64), ("load", c_uint64), ("weight", c_uint32), ("slot", c_uint32))


class _Heap(ctypes.Structure):
    _fields_ = (
        ("entries", POINTER(_Entry)),
        ("places", POINTER(c_int32)),
        ("len", c_uint32),
        ("cap", c_uint32),
    )


class _Core(ctypes.Structure):
    _fields_ = (
        ("lock", c_int),
        ("pick", c_uint32),
        ("nodes", POINTER(_Node)),
        ("node_cap", c_uint32),
        ("heap", _Heap),
        ("backups", _Heap),
        ("tier_count", c_uint32 * 3),
        ("fading", POINTER(c_uint32)),
        ("fading_count", c_uint32),
        ("table", c_void_p),
        ("table_len", c_uint32),
        ("cursor", c_uint32),
        ("random_state", c_uint64),
        ("tick", c_uint64),
        ("queue_head", c_void_p),
        ("queue_tail", c_void_p),
        ("queue_len", c_uint32),
        ("granted", c_void_p * WORKERS_MAX),
    )


def core_of(balancer: Any, kind: type, count: int) -> _Core:
    """The struct in a native balancer, which is a `kind`, over `count` backends, all in the heap."""
    core = _Core.from_address(id(balancer) + kind.__basicsize__ - ctypes.sizeof(_Core))
    assert (core.lock, core.heap.len, core.tier_count[1]) == (0, count, count), "the structs have changed"
    return core


# --- native: what is broken, by the number of the rule that it breaks ---------------------------


def _load(core: _Core) -> None:
    core.heap.entries[0].load = 1_000_000


def _place(core: _Core) -> None:
    core.heap.places[1] = -1


def _count(core: _Core) -> None:
    core.nodes[1].in_flight += 1


def _stranger(core: _Core) -> None:
    core.nodes[1].tier = 0


def _shorter(core: _Core) -> None:
    core.heap.len -= 1


NATIVE: dict[str, Callable[[_Core], None]] = {
    "a child before its parent": _load,
    "a place that is not its own": _place,
    "a count that the order does not know": _count,
    "one that is not in the plan": _stranger,
    "one too few": _shorter,
}


# --- pure ---------------------------------------------------------------------------------------


def _swap(balancer: Any) -> None:
    heap = balancer._heap
    heap[0], heap[-1] = heap[-1], heap[0]
    for position, node in enumerate(heap):
        node.position = position


def _move(balancer: Any) -> None:
    balancer._heap[0].position += 1


def _negative(balancer: Any) -> None:
    balancer._nodes[1].in_flight = -1


def _unlist(balancer: Any) -> None:
    balancer._heap[1].listed = False


def _shorten(balancer: Any) -> None:
    balancer._heap.pop()


PURE: dict[str, Callable[[Any], None]] = dict(
    zip(NATIVE, (_swap, _move, _negative, _unlist, _shorten), strict=True)
)
