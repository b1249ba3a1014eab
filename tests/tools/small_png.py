"""Rewrites a PNG with at most 256 colours, for pictures that are checked in. Knows what a browser's screenshots are."""

import collections
import pathlib
import struct
import sys
import zlib


def chunks(data):
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += length + 12


def lines(raw, width, height, size):
    """The lines without their filters; `size` is that of a pixel in bytes."""
    stride, above = width * size, bytearray(width * size)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for x in range(stride):
            left = line[x - size] if x >= size else 0
            up, corner = above[x], above[x - size] if x >= size else 0
            if kind == 1:
                line[x] = (line[x] + left) & 255
            elif kind == 2:
                line[x] = (line[x] + up) & 255
            elif kind == 3:
                line[x] = (line[x] + (left + up) // 2) & 255
            elif kind == 4:
                near = min((left, up, corner), key=lambda colour: abs(left + up - corner - colour))
                line[x] = (line[x] + near) & 255
        above = line
        yield line


def main(path):
    data = path.read_bytes()
    (header,) = [body for name, body in chunks(data) if name == b"IHDR"]
    width, height, depth, kind = struct.unpack_from(">IIBB", header)
    assert depth == 8 and kind in (2, 6), "not what a browser writes"
    size = 3 if kind == 2 else 4
    raw = zlib.decompress(b"".join(body for name, body in chunks(data) if name == b"IDAT"))
    pixels = [[bytes(line[x : x + 3]) for x in range(0, width * size, size)] for line in lines(raw, width, height, size)]
    # The 64 colours that are seen most, and for any other the nearest of them.
    seen = collections.Counter(colour for line in pixels for colour in line)
    palette = [colour for colour, _ in seen.most_common(64)]
    nearest = {
        colour: min(range(len(palette)), key=lambda n: sum((a - b) ** 2 for a, b in zip(colour, palette[n])))
        for colour in seen
    }
    packed = zlib.compress(b"".join(b"\0" + bytes(nearest[colour] for colour in line) for line in pixels), 9)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", b"".join(palette)),
        (b"IDAT", packed),
        (b"IEND", b""),
    ]
    written = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    path.write_bytes(data[:8] + written)


for name in sys.argv[1:]:
    main(pathlib.Path(name))
