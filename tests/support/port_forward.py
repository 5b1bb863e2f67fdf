"""The API server's side of a port that is forwarded: a web socket that carries the bytes of one connection."""

import base64
import hashlib
import socket
import struct
from contextlib import suppress
from threading import Thread
from typing import Any

_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE = 2, 8


def serve(handler: Any, port: int, address: tuple[str, int]) -> None:
    """Answer the upgrade of a request for `port`, and lead it to what listens at `address`."""
    accepted = base64.b64encode(hashlib.sha1(handler.headers["sec-websocket-key"].encode() + _KEY).digest()).decode()
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", accepted)
    handler.send_header("Sec-WebSocket-Protocol", handler.headers["sec-websocket-protocol"])
    handler.end_headers()
    handler.close_connection = True
    for channel in (0, 1):
        _send(handler.wfile, bytes([channel]) + struct.pack("<H", port))
    with socket.create_connection(address) as there:
        back = Thread(target=_back, args=(there, handler.wfile), daemon=True)
        back.start()
        while (content := _receive(handler.rfile)) is not None:
            there.sendall(content[1:])
        with suppress(OSError):
            there.shutdown(socket.SHUT_RDWR)
        back.join()


def _back(there: socket.socket, sink: Any) -> None:
    with suppress(OSError):
        while content := there.recv(65536):
            _send(sink, b"\0" + content)
        sink.write(bytes([0x80 | _CLOSE, 0]))


def _send(sink: Any, content: bytes) -> None:
    length = len(content)
    head = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length) if length < 65536 else None
    if head is None:
        head = b"\x7f" + struct.pack(">Q", length)
    sink.write(bytes([0x80 | _BINARY]) + head + content)
    sink.flush()


def _receive(source: Any) -> bytes | None:
    """The content of one frame; None where the other side ends."""
    head = source.read(2)
    if len(head) < 2 or head[0] & 15 == _CLOSE:
        return None
    length = head[1] & 127
    if length == 126:
        (length,) = struct.unpack(">H", source.read(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", source.read(8))
    mask, content = source.read(4), source.read(length)
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(content))
