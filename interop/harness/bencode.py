"""Bencoding (BEP 3): byte strings, integers, lists, dictionaries with keys in order."""


def encode(value):
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, (bytes, bytearray)):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    keys = {key.encode() if isinstance(key, str) else key: item for key, item in value.items()}
    return b"d" + b"".join(encode(key) + encode(keys[key]) for key in sorted(keys)) + b"e"


def decode(data):
    value, rest = _take(data)
    if rest != len(data):
        raise ValueError("bytes behind the value")
    return value


def _take(data, at=0):
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while data[at : at + 1] != b"e":
            item, at = _take(data, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2]))), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    if end > len(data):
        raise ValueError("a string that ends too early")
    return data[colon + 1 : end], end
