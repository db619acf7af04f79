"""ThumbHash of an opaque picture: about 20 bytes that an app turns into a blurred placeholder before any request.

The published algorithm (Evan Wallace, 2023) for pictures without transparency, which all our ancestors are.
"""

from array import array
from math import cos, floor, pi
from typing import Final

from imagecore.errors import OutOfBounds

MAX_SIDE: Final = 100


def _wave(channel: "array[float]", width: int, height: int, across: "array[float]", down: "array[float]") -> float:
    """Sum of the channel weighted by one cosine wave along each side."""
    total = 0.0
    for y in range(height):
        for x in range(width):
            total += channel[x + y * width] * across[x] * down[y]
    return total


def _split(rgb: bytes, pixels: int, light: "array[float]", yellow: "array[float]", red: "array[float]") -> int:
    """Luminance, yellow against blue and red against green of each pixel, all from 0..1 channels."""
    for i in range(pixels):
        r = rgb[3 * i] / 255.0
        g = rgb[3 * i + 1] / 255.0
        b = rgb[3 * i + 2] / 255.0
        light[i] = (r + g + b) / 3.0
        yellow[i] = (r + g) / 2.0 - b
        red[i] = r - g
    return 0


def _half_up(value: float) -> int:
    return floor(value + 0.5)


def _encode(channel: "array[float]", width: int, height: int, nx: int, ny: int) -> tuple[float, list[float], float]:
    """Mean, the other low frequencies scaled to 0..1, and their scale."""
    mean, waves, scale = 0.0, [], 0.0
    for cy in range(ny):
        down = array("d", [cos(pi / height * cy * (y + 0.5)) for y in range(height)])
        cx = 0
        while cx * ny < nx * (ny - cy):
            across = array("d", [cos(pi / width * cx * (x + 0.5)) for x in range(width)])
            value = _wave(channel, width, height, across, down) / (width * height)
            if cx or cy:
                waves.append(value)
                scale = max(scale, abs(value))
            else:
                mean = value
            cx += 1
    if scale:
        waves = [0.5 + 0.5 / scale * value for value in waves]
    return mean, waves, scale


def encode(width: int, height: int, rgb: bytes) -> bytes:
    """The hash of `width` x `height` RGB pixels, each side 1..100. Raises `OutOfBounds`."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and len(rgb) == 3 * width * height):
        raise OutOfBounds(f"{len(rgb)} bytes are no {width} x {height} picture for a hash")
    light, yellow, red = (array("d", bytes(8 * width * height)) for _ in range(3))
    _split(rgb, width * height, light, yellow, red)
    longer = max(width, height)
    lx, ly = max(1, _half_up(7 * width / longer)), max(1, _half_up(7 * height / longer))
    l_mean, l_waves, l_scale = _encode(light, width, height, max(3, lx), max(3, ly))
    p_mean, p_waves, p_scale = _encode(yellow, width, height, 3, 3)
    q_mean, q_waves, q_scale = _encode(red, width, height, 3, 3)
    is_landscape = width > height
    head = (
        _half_up(63 * l_mean)
        | _half_up(31.5 + 31.5 * p_mean) << 6
        | _half_up(31.5 + 31.5 * q_mean) << 12
        | _half_up(31 * l_scale) << 18
    )
    tail = (ly if is_landscape else lx) | _half_up(63 * p_scale) << 3 | _half_up(63 * q_scale) << 9 | is_landscape << 15
    nibbles = [_half_up(15 * value) for value in (*l_waves, *p_waves, *q_waves)]
    nibbles += [0] * (len(nibbles) & 1)
    packed = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    return head.to_bytes(3, "little") + tail.to_bytes(2, "little") + packed
