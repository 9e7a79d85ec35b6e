# cython: annotation_typing=False
"""Reference build of `pinnace.ext.envelope`; `envelope_c.pxd` gives it C types (the annotations here are for the reader and mypy).

One pass over the bytes, as Go's encoding/json reads them: keys in any order and any case (a later duplicate wins, null is no value),
unknown members skipped, whatever follows the first value ignored. The content is checked to be well-formed JSON and kept as it came;
its strings may hold bytes that are not UTF-8, which the reader of the body will find.
"""

from __future__ import annotations

from pinnace.ext import records
from pinnace.ext.errors import EnvelopeError

MAX_DEPTH = 1000
"""Levels of nesting that a content may have."""

_MAX_DEPTH = MAX_DEPTH
_TWO_63 = 1 << 63

_QUOTE = 0x22
_BACKSLASH = 0x5C
_COLON = 0x3A
_COMMA = 0x2C
_OPEN_OBJECT = 0x7B
_CLOSE_OBJECT = 0x7D
_OPEN_ARRAY = 0x5B
_CLOSE_ARRAY = 0x5D
_MINUS = 0x2D
_PLUS = 0x2B
_DOT = 0x2E
_ZERO = 0x30
_NINE = 0x39
_SPACE = 0x20
_SLASH = 0x2F
_LOWER_U = 0x75
_LOWER_E = 0x65
_LOWER_N = 0x6E
_LOWER_T = 0x74
_LOWER_F = 0x66

_NO_FIELD = 0
_HEADER = 1
_ROUTE = 2
_CONTENT = 3
_MSG_ID = 4
_PARENT_ID = 5
_TIMESTAMP = 6
_RESOURCE_VERSION = 7
_SYNC = 8
_TYPE = 9
_SOURCE = 10
_DESTINATION = 11
_GROUP = 12
_OPERATION = 13
_RESOURCE = 14

_FIELD_NAMES = (
    "", "header", "route", "content", "header.msg_id", "header.parent_msg_id", "header.timestamp", "header.resourceversion", "header.sync",
    "header.type", "route.source", "route.destination", "route.group", "route.operation", "route.resource",
)  # fmt: skip


# --- Scanning: positions in, positions out; a negative answer is ~position of the first byte that cannot be. ---


def _blank(text: bytes, at: int, end: int) -> int:
    """The first position from `at` on that is not white space."""
    while at < end:
        byte = text[at]
        if byte > _SPACE or (byte != _SPACE and (byte < 9 or byte > 13 or byte in (11, 12))):
            break
        at += 1
    return at


def _is_hex(byte: int) -> bool:
    return _ZERO <= byte <= _NINE or 0x41 <= byte <= 0x46 or 0x61 <= byte <= 0x66


def _string(text: bytes, at: int, end: int) -> int:
    """The position after the closing quote of the string whose first character is at `at`."""
    while at < end:
        byte = text[at]
        if byte == _QUOTE:
            return at + 1
        if byte < _SPACE:
            return ~at
        if byte == _BACKSLASH:
            at += 1
            if at >= end:
                return ~at
            byte = text[at]
            if byte == _LOWER_U:
                if end - at < 5:
                    return ~end
                if not (_is_hex(text[at + 1]) and _is_hex(text[at + 2]) and _is_hex(text[at + 3]) and _is_hex(text[at + 4])):
                    return ~at
                at += 4
            elif byte not in (_QUOTE, _BACKSLASH, _SLASH, 0x62, _LOWER_F, _LOWER_N, 0x72, _LOWER_T):
                return ~at
        at += 1
    return ~end


def _number(text: bytes, at: int, end: int) -> int:
    """The position after the number that begins at `at`."""
    if text[at] == _MINUS:
        at += 1
        if at >= end:
            return ~at
    byte = text[at]
    if byte < _ZERO or byte > _NINE:
        return ~at
    at += 1
    if byte != _ZERO:
        while at < end and _ZERO <= text[at] <= _NINE:
            at += 1
    if at < end and text[at] == _DOT:
        at += 1
        if at >= end or text[at] < _ZERO or text[at] > _NINE:
            return ~at
        while at < end and _ZERO <= text[at] <= _NINE:
            at += 1
    if at < end and (text[at] == _LOWER_E or text[at] == 0x45):
        at += 1
        if at < end and (text[at] == _PLUS or text[at] == _MINUS):
            at += 1
        if at >= end or text[at] < _ZERO or text[at] > _NINE:
            return ~at
        while at < end and _ZERO <= text[at] <= _NINE:
            at += 1
    return at


def _word(text: bytes, at: int, end: int) -> int:
    """The position after the `true`, `false` or `null` that begins at `at`."""
    byte = text[at]
    if byte == _LOWER_T:
        if end - at >= 4 and text[at + 1] == 0x72 and text[at + 2] == _LOWER_U and text[at + 3] == _LOWER_E:
            return at + 4
    elif byte == _LOWER_N:
        if end - at >= 4 and text[at + 1] == _LOWER_U and text[at + 2] == 0x6C and text[at + 3] == 0x6C:
            return at + 4
    elif (
        byte == _LOWER_F
        and end - at >= 5
        and text[at + 1] == 0x61
        and text[at + 2] == 0x6C
        and text[at + 3] == 0x73
        and text[at + 4] == _LOWER_E
    ):
        return at + 5
    return ~at


def _scalar(text: bytes, at: int, end: int) -> int:
    """The position after the string, number or word that begins at `at`."""
    byte = text[at]
    if byte == _QUOTE:
        return _string(text, at + 1, end)
    if byte == _MINUS or _ZERO <= byte <= _NINE:
        return _number(text, at, end)
    return _word(text, at, end)


def _key(text: bytes, at: int, end: int) -> int:
    """The position of the value after the member name that begins at `at`."""
    if at >= end or text[at] != _QUOTE:
        return ~at
    at = _string(text, at + 1, end)
    if at < 0:
        return at
    at = _blank(text, at, end)
    if at >= end or text[at] != _COLON:
        return ~at
    return _blank(text, at + 1, end)


def _value(text: bytes, at: int, end: int, levels: bytearray) -> int:
    """The position after the value that begins at `at`. `levels` has room for one byte for each of the permitted levels."""
    depth = 0
    while True:
        if at >= end:
            return ~end
        byte = text[at]
        if byte in (_OPEN_OBJECT, _OPEN_ARRAY):
            if depth >= _MAX_DEPTH:
                return ~at
            levels[depth] = byte
            depth += 1
            at = _blank(text, at + 1, end)
            if at >= end:
                return ~end
            if text[at] != byte + 2:  # { and } as well as [ and ] are two apart
                if byte == _OPEN_OBJECT:
                    at = _key(text, at, end)
                    if at < 0:
                        return at
                continue
            at += 1
            depth -= 1
        else:
            at = _scalar(text, at, end)
            if at < 0:
                return at
        while True:
            if depth == 0:
                return at
            at = _blank(text, at, end)
            if at >= end:
                return ~end
            byte = text[at]
            if byte == _COMMA:
                at = _blank(text, at + 1, end)
                if levels[depth - 1] == _OPEN_OBJECT:
                    at = _key(text, at, end)
                    if at < 0:
                        return at
                break
            if byte != levels[depth - 1] + 2:
                return ~at
            at += 1
            depth -= 1


def _any(text: bytes, at: int, end: int) -> int:
    """The position after the value that begins at `at`, before `end`."""
    byte = text[at]
    return _value(text, at, end, bytearray(_MAX_DEPTH)) if byte in (_OPEN_OBJECT, _OPEN_ARRAY) else _scalar(text, at, end)


# --- Names and scalars of header and route ---


def _same(text: bytes, at: int, end: int, name: bytes) -> bool:
    """Whether text[at:end] is `name` but for the case of ASCII letters; both have the same length."""
    position = 0
    while at < end:
        byte = text[at]
        if 0x41 <= byte <= 0x5A:
            byte += 32
        if byte != name[position]:
            return False
        at += 1
        position += 1
    return True


def _field(text: bytes, at: int, end: int, owner: int) -> int:
    """Which field of `owner` (none, header or route) the name text[at:end] means."""
    length = end - at
    if owner == _NO_FIELD:
        if length == 6 and _same(text, at, end, b"header"):
            return _HEADER
        if length == 5 and _same(text, at, end, b"route"):
            return _ROUTE
        if length == 7 and _same(text, at, end, b"content"):
            return _CONTENT
    elif owner == _HEADER:
        if length == 6 and _same(text, at, end, b"msg_id"):
            return _MSG_ID
        if length == 9 and _same(text, at, end, b"timestamp"):
            return _TIMESTAMP
        if length == 13 and _same(text, at, end, b"parent_msg_id"):
            return _PARENT_ID
        if length == 15 and _same(text, at, end, b"resourceversion"):
            return _RESOURCE_VERSION
        if length == 4 and _same(text, at, end, b"sync"):
            return _SYNC
        if length == 4 and _same(text, at, end, b"type"):
            return _TYPE
    else:
        if length == 6 and _same(text, at, end, b"source"):
            return _SOURCE
        if length == 5 and _same(text, at, end, b"group"):
            return _GROUP
        if length == 9 and _same(text, at, end, b"operation"):
            return _OPERATION
        if length == 8 and _same(text, at, end, b"resource"):
            return _RESOURCE
        if length == 11 and _same(text, at, end, b"destination"):
            return _DESTINATION
    return _NO_FIELD


def _is_plain(text: bytes, at: int, end: int) -> bool:
    """Whether text[at:end] is ASCII without escapes."""
    while at < end:
        byte = text[at]
        if byte == _BACKSLASH or byte >= 0x80:
            return False
        at += 1
    return True


def _unescape(raw: bytes) -> str:
    """The characters of a checked JSON string as Go sees them: what is no UTF-8 and half a surrogate pair become U+FFFD."""
    text = raw.decode("utf-8", "surrogateescape").translate(_BYTES_OF_NO_TEXT)
    if "\\" not in text:
        return text
    parts = text.split("\\")
    found = [parts[0]]
    position = 1
    while position < len(parts):
        part = parts[position]
        if part == "":  # an escaped backslash: the next part begins with ordinary characters
            position += 1
            found.append("\\" + parts[position])
        elif part[0] == "u":
            unit = int(part[1:5], 16)
            rest = part[5:]
            if 0xD800 <= unit < 0xDC00 and rest == "" and position + 1 < len(parts) and parts[position + 1][:1] == "u":
                low = int(parts[position + 1][1:5], 16)
                if 0xDC00 <= low < 0xE000:
                    position += 1
                    found.append(chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)) + parts[position][5:])
                    position += 1
                    continue
            found.append(("\ufffd" if 0xD800 <= unit < 0xE000 else chr(unit)) + rest)
        else:
            found.append(_ESCAPED[part[0]] + part[1:])
        position += 1
    return "".join(found)


_BYTES_OF_NO_TEXT = dict.fromkeys(range(0xDC80, 0xDD00), "\ufffd")
_ESCAPED = {'"': '"', "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _slow_field(raw: bytes, owner: int) -> int:
    """`_field` for a name with escapes or beyond ASCII: Go also takes U+017F for s (and U+212A for k, which no field has)."""
    name = _unescape(raw).replace("\u017f", "s").encode()
    return _field(name, 0, len(name), owner)


def _bad(text: bytes, position: int) -> EnvelopeError:
    """The error for the first byte that cannot be."""
    if position >= len(text):
        return EnvelopeError(f"the JSON text ends too early, after {len(text)} bytes")
    return EnvelopeError(f"bad JSON at byte {position}: {text[position : position + 16]!r}")


def _wrong(field: int, expected: str) -> EnvelopeError:
    return EnvelopeError(f"{_FIELD_NAMES[field]}: expected {expected}")


def _integer(text: bytes, at: int, end: int) -> int | None:
    """The whole number text[at:end], None when it has a fraction, an exponent or more than 64 bits."""
    negative = text[at] == _MINUS
    position = at + 1 if negative else at
    if end - position > 18:
        return _long_integer(text[at:end])
    number = 0
    while position < end:
        byte = text[position]
        if byte < _ZERO or byte > _NINE:
            return None
        number = number * 10 + (byte - _ZERO)
        position += 1
    return -number if negative else number


def _long_integer(text: bytes) -> int | None:
    if len(text) > 20 or not text.lstrip(b"-").isdigit():
        return None
    number = int(text)
    return number if -_TWO_63 <= number < _TWO_63 else None


# --- The envelope ---


def _members(data: bytes, cursor: int, owner: int, message: records.Envelope) -> int:
    """Read the members of the header, the route or the whole (`owner`) into `message`. `cursor` is the position after the brace.

    Gives the position after the closing brace. Raises EnvelopeError.
    """
    text = data
    size = len(data)
    at = _blank(text, cursor, size)
    if at < size and text[at] == _CLOSE_OBJECT:
        return at + 1
    while True:
        start = at + 1
        stop = _key(text, at, size)
        if stop < 0:
            raise _bad(data, ~stop)
        at = _string(text, start, size) - 1
        field = _field(text, start, at, owner) if _is_plain(text, start, at) else _slow_field(data[start:at], owner)
        start = stop
        if start >= size:
            raise _bad(data, size)
        byte = text[start]
        if field in (_HEADER, _ROUTE):
            if byte == _OPEN_OBJECT:
                stop = _members(data, start + 1, field, message)
            else:
                stop = _any(text, start, size)
                if stop >= 0 and byte != _LOWER_N:
                    raise _wrong(field, "an object")
        else:
            stop = _any(text, start, size)
        if stop < 0:
            raise _bad(data, ~stop)
        if field == _CONTENT:
            message.body = text[start:stop]
        elif field > _CONTENT and byte != _LOWER_N:
            if field == _TIMESTAMP:
                number = None if byte != _MINUS and (byte < _ZERO or byte > _NINE) else _integer(text, start, stop)
                if number is None:
                    raise _wrong(field, "a whole number of 64 bits")
                message.timestamp = number
            elif field == _SYNC:
                if byte not in (_LOWER_T, _LOWER_F):
                    raise _wrong(field, "true or false")
                message.sync = byte == _LOWER_T
            elif byte != _QUOTE:
                raise _wrong(field, "a string")
            else:
                start += 1
                stop -= 1
                string = text[start:stop].decode("ascii") if _is_plain(text, start, stop) else _unescape(data[start:stop])
                stop += 1
                if field == _MSG_ID:
                    message.msg_id = string
                elif field == _PARENT_ID:
                    message.parent_id = string
                elif field == _RESOURCE_VERSION:
                    message.resource_version = string
                elif field == _SOURCE:
                    message.source = string
                elif field == _GROUP:
                    message.group = string
                elif field == _OPERATION:
                    message.operation = string
                elif field == _RESOURCE:
                    message.resource = string
                elif field == _DESTINATION:
                    message.destination = string
                else:
                    message.type = string
        at = _blank(text, stop, size)
        if at >= size:
            raise _bad(data, size)
        byte = text[at]
        if byte == _CLOSE_OBJECT:
            return at + 1
        if byte != _COMMA:
            raise _bad(data, at)
        at = _blank(text, at + 1, size)


def decode(data: bytes) -> records.Envelope:
    """The envelope that `data` begins with; what follows it is ignored, as Go's decoder leaves it for the next read.

    Raises EnvelopeError when the text is no JSON object, breaks off, nests deeper than `MAX_DEPTH` or has a field of the wrong type.
    """
    size = len(data)
    at = _blank(data, 0, size)
    if at >= size or data[at] != _OPEN_OBJECT:
        raise EnvelopeError("no JSON object" if at < size else "no JSON object but an empty message")
    message = records.empty_envelope()
    _members(data, at + 1, _NO_FIELD, message)
    return message


# --- Writing ---


def _needs_no_escape(text: str) -> bool:
    for character in text:  # noqa: SIM110 - a generator is no loop in C
        if character < " " or character > "\u007f" or character in ('"', "\\", "<", ">", "&"):
            return False
    return True


_ESCAPES = {
    **{code: f"\\u{code:04x}" for code in (*range(0x20), 0x3C, 0x3E, 0x26, 0x2028, 0x2029)},
    0x08: "\\b",
    0x09: "\\t",
    0x0A: "\\n",
    0x0C: "\\f",
    0x0D: "\\r",
    0x22: '\\"',
    0x5C: "\\\\",
    **dict.fromkeys(range(0xD800, 0xE000), "\\ufffd"),
}


def _escaped(text: str) -> str:
    """`text` as the inside of a JSON string, escaped as Go's encoding/json escapes."""
    return text if _needs_no_escape(text) else text.translate(_ESCAPES)


def _member(name: str, value: str) -> str:
    return f',"{name}":"{_escaped(value)}"' if value else ""


def encode(envelope: records.Envelope) -> bytes:
    """The JSON text of an envelope in KubeEdge's key order, empty fields left out, without a newline. The body is written as it is."""
    sync = ',"sync":true' if envelope.sync else ""
    header = (
        f'{{"header":{{"msg_id":"{_escaped(envelope.msg_id)}"{_member("parent_msg_id", envelope.parent_id)}'
        f',"timestamp":{envelope.timestamp}{_member("resourceversion", envelope.resource_version)}'
        f"{sync}{_member('type', envelope.type)}}}"
    )
    route = (
        f"{_member('source', envelope.source)}{_member('destination', envelope.destination)}{_member('group', envelope.group)}"
        f"{_member('operation', envelope.operation)}{_member('resource', envelope.resource)}"
    )
    return b"".join((header.encode(), b',"route":{', route[1:].encode(), b'},"content":', envelope.body or b"null", b"}"))
