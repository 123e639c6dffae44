"""A link that is slow and loses some: carries frames between two hosts' interfaces, late.

    python slow_link.py PID INTERFACE PID INTERFACE DELAY_S LOSS

Makes both interfaces, each in the network of a process, prints a line, and works until it is
ended. The kernel has a module for this (netem), which not every machine has.
"""

import ctypes
import fcntl
import os
import random
import selectors
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_CLONE_NEWNET = 0x40000000
_MAX_FRAME_BYTES = 2**16
_SEED = 0


def main() -> None:
    """Make the interfaces and carry frames."""
    one_pid, one_name, other_pid, other_name, delay_s, loss = sys.argv[1:]
    networks = [os.open(f"/proc/{pid}/ns/net", os.O_RDONLY) for pid in (one_pid, other_pid)]
    ends = [_tap(networks[0], one_name), _tap(networks[1], other_name)]
    print("ready", flush=True)
    _carry(ends, float(delay_s), float(loss))


def _carry(ends: list[int], delay_s: float, loss: float) -> None:
    """Pass each frame on to the other end ``delay_s`` later, or, by chance, never."""
    chance = random.Random(_SEED)
    selector = selectors.DefaultSelector()
    for end, other in (ends, reversed(ends)):
        selector.register(end, selectors.EVENT_READ, data=other)
    late: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait_s = max(0.0, late[0][0] - time.monotonic()) if late else None
        for key, _ in selector.select(wait_s):
            frame = os.read(key.fd, _MAX_FRAME_BYTES)
            if chance.random() >= loss:
                late.append((time.monotonic() + delay_s, key.data, frame))
        while late and late[0][0] <= time.monotonic():
            _, end, frame = late.popleft()
            try:
                os.write(end, frame)
            except OSError:  # the interface is down: the frame is lost
                continue


def _tap(network: int, name: str) -> int:
    """Return an interface that hands its frames to this process, made in a network."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(network, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return end


if __name__ == "__main__":
    main()
