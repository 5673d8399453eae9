"""Ed25519 (RFC 8032), slow and plain: to make items as anybody may, and to check those of others."""

import hashlib

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def _add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    e, f = (y1 - x1) * (y2 - x2), (y1 + x1) * (y2 + x2)
    g, h = 2 * t1 * t2 * D, 2 * z1 * z2
    e, f, g, h = f - e, h - g, h + g, e + f
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(number, point):
    out = (0, 1, 1, 0)
    while number:
        if number & 1:
            out = _add(out, point)
        point = _add(point, point)
        number >>= 1
    return out


def _root(y, odd):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        return None
    return P - x if (x & 1) != odd else x


_Y = 4 * pow(5, P - 2, P) % P
_X = _root(_Y, 0)
BASE = (_X, _Y, 1, _X * _Y % P)


def _pack(point):
    x, y, z, _ = point
    inverse = pow(z, P - 2, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _unpack(data):
    number = int.from_bytes(data, "little")
    y = number & ((1 << 255) - 1)
    x = _root(y, number >> 255)
    return None if x is None or y >= P else (x, y, 1, x * y % P)


def _number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def expand(seed):
    """The 64 bytes of the secret scalar and the prefix, as libtorrent wants a private key."""
    digest = bytearray(hashlib.sha512(seed).digest())
    digest[0] &= 248
    digest[31] = digest[31] & 63 | 64
    return bytes(digest)


def public(seed):
    return _pack(_times(int.from_bytes(expand(seed)[:32], "little"), BASE))


def sign(seed, message):
    expanded, key = expand(seed), public(seed)
    scalar = int.from_bytes(expanded[:32], "little")
    nonce = _number(expanded[32:], message) % ORDER
    point = _pack(_times(nonce, BASE))
    return point + ((nonce + _number(point, key, message) * scalar) % ORDER).to_bytes(32, "little")


def verify(key, message, signature):
    point, a = _unpack(signature[:32]), _unpack(key)
    scalar = int.from_bytes(signature[32:], "little")
    if point is None or a is None or scalar >= ORDER:
        return False
    right = _add(point, _times(_number(signature[:32], key, message) % ORDER, a))
    return _pack(_times(scalar, BASE)) == _pack(right)
