"""Listening: the socket of a server of ours, and what is said if it cannot be had."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Final

__all__ = ["QUEUE", "listening", "written"]

QUEUE: Final = 128
"""How many connections wait in the system's queue until the server takes them."""

LISTEN_SECONDS: Final = 2.0
"""For how long a taken address is tried: the process of a server that was killed lets go of it in a moment."""

Refused = Callable[[str, str], Exception]
"""Makes the error to raise of what is wrong and what to do: the caller knows which key names the address."""


def written(address: str, port: int) -> str:
    """Return address and port as one writes them, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def listening(address: str, port: int, refused: Refused) -> socket.socket:
    """Return a socket that listens on an IPv4 or IPv6 address of this machine. Raises what `refused` makes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY on no other
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a restart need not wait
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the address that was said and no other
        _bind(listener, address, port)
        listener.listen(QUEUE)
    except OSError as error:
        listener.close()
        where = written(address, port)
        match error.errno:
            case errno.EADDRINUSE:
                why, remedy = f"another program listens on {where} already", "Stop it, or choose another port"
            case errno.EACCES:
                why, remedy = f"this user may not listen on {where}", "Choose a port above 1023"
            case errno.EADDRNOTAVAIL:
                why, remedy = f"this machine has no address {address}", "Choose one that it has, or 127.0.0.1"
            case _:
                what = os.strerror(error.errno or 0).lower()
                why, remedy = f"cannot listen on {where}: {what}", "Choose another address"
        raise refused(why, remedy) from None
    return listener


def _bind(listener: socket.socket, address: str, port: int) -> None:
    until = time.monotonic() + LISTEN_SECONDS
    while True:
        try:
            listener.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
            time.sleep(LISTEN_SECONDS / 20)
        else:
            return
