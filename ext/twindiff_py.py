# cython: annotation_typing=False
"""Reference build of `pinnace.ext.twindiff`; `twindiff_c.pxd` gives it C types.

A value is kept as the JSON text it is sent as, quotes included, escaped as Go does; equal texts are equal values. What is told about a
twin is put together from pieces that change only with it, so an update costs what it says and not what the device has.

Reading follows Go's encoding/json: keys in any case, unknown members skipped, the last of a doubled key counts, null is absence, a
value of the wrong type is an error. Reader and twins stand in one file because a call into another extension module costs what the
compiled build saves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pinnace.ext import records
from pinnace.ext.errors import TwinError

MAX_TWINS = 1000
"""Properties of one device, deleted ones included as long as their versions matter."""

MAX_DEPTH = 100
"""Levels of nesting of a member that nobody reads."""

_MAX_TWINS = MAX_TWINS
_MAX_DEPTH = MAX_DEPTH
_MAX_NAME = 128
_MAX_VALUE = 512
_MAX_INT64 = 9223372036854775807

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
_LOWER_U = 0x75
_LOWER_E = 0x65
_UPPER_E = 0x45
_LOWER_N = 0x6E
_LOWER_T = 0x74
_LOWER_F = 0x66

# What a byte is inside a string.
_WORD = 0  # may stand in a client's names and values
_TEXT = 1  # stands for itself in JSON
_FOREIGN = 2  # is escaped by Go, or no ASCII
_ESCAPE = 3
_CLOSING = 4
_ILLEGAL = 5


def _classify(byte: int) -> int:
    if byte < 0x20:
        return 5
    if byte >= 0x80 or byte in b"<>&":
        return 2
    if byte in b'"\\':
        return 4 if byte == 0x22 else 3
    return 0 if chr(byte).isalnum() or byte in b"-_.,:/@#" else 1


_CLASSES = bytes([_classify(_byte) for _byte in range(256)])

_ESCAPED = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_PLAIN_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPES = {_code: f"\\u{_code:04x}" for _code in (*range(0x20), 0x3C, 0x3E, 0x26, 0x2028, 0x2029)}
_ESCAPES.update({0x08: "\\b", 0x0C: "\\f", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x22: '\\"', 0x5C: "\\\\"})

_OPENING = b'"twin":{'
_UNSET = b'""'
_DELETED = b"deleted"
_STRING = b"string"
_INT = b"int"
_INTEGER = b"integer"
_FLOAT = b"float"
_BOOLEAN = b"boolean"
_TYPES = {_each: _each for _each in (b"string", b"int", b"integer", b"float", b"boolean", b"deleted")}


def _unescape(raw: bytes) -> str:
    """The characters of a checked JSON string; half a surrogate pair becomes U+FFFD, as in Go."""

    def character(match: re.Match[str]) -> str:
        what = match[1]
        return chr(int(what[1:], 16)) if len(what) == 5 else _PLAIN_ESCAPES.get(what, what)

    text = _ESCAPED.sub(character, raw.decode())
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _quote(text: str) -> bytes:
    """`text` as a JSON string in the one form that values are compared in."""
    piece = b'"' + text.encode() + b'"'
    if _is_word(piece):
        return piece
    return b'"' + text.translate(_ESCAPES).encode() + b'"'


def _number(value: int) -> bytes:
    """A whole number as text."""
    return f"{value}".encode()


class _Change:
    """What one update says about one property. Versions are -1 where the update has none, `optional` likewise."""

    name: bytes
    is_null: bool
    desired: bytes | None
    desired_at: int
    desired_cloud: int
    desired_edge: int
    overridden: bytes | None
    reported: bytes | None
    reported_at: int
    reported_cloud: int
    reported_edge: int
    optional: int
    type: bytes


def _change(name: bytes) -> _Change:
    """A change that says nothing yet. No constructor: calling one costs the compiled build more than all the rest of it."""
    change = _Change.__new__(_Change)
    change.name = name
    change.is_null = False
    change.desired = None
    change.desired_at = 0
    change.desired_cloud = -1
    change.desired_edge = -1
    change.overridden = None
    change.reported = None
    change.reported_at = 0
    change.reported_cloud = -1
    change.reported_edge = -1
    change.optional = -1
    change.type = b""
    return change


class _Reader:
    """Reads one message. A zero byte after its end stops every scan, as none may stand in JSON."""

    text: bytes
    data: bytes
    end: int
    at: int
    start: int
    stop: int
    is_plain: bool
    is_word: bool
    is_strict: bool
    first: int
    second: int
    value_at: int
    event_id: str

    def refusal(self, wanted: str) -> TwinError:
        return TwinError(f"{wanted} expected at byte {self.at} of the message")

    def peek(self) -> int:
        """The next byte that is no white space; it stays unread."""
        byte = self.data[self.at]
        while byte in (0x20, 0x0A, 0x0D, 0x09):
            self.at += 1
            byte = self.data[self.at]
        return byte

    def string(self) -> None:
        """Read a string; its characters are data[start:stop]."""
        table = _CLASSES
        data = self.data
        if self.peek() != _QUOTE:
            raise self.refusal("a text")
        at = self.at + 1
        self.start = at
        is_plain = True
        is_word = True
        while True:
            kind = table[data[at]]
            if kind == _WORD:
                at += 1
            elif kind == _CLOSING:
                break
            elif kind == _TEXT:
                is_word = False
                at += 1
            elif kind == _FOREIGN:
                is_word = False
                is_plain = False
                at += 1
            else:
                is_word = False
                is_plain = False
                self.at = at
                if kind == _ILLEGAL:
                    raise self.refusal("the end of a text")
                at = self.escape()
        self.stop = at
        self.at = at + 1
        self.is_plain = is_plain
        self.is_word = is_word

    def escape(self) -> int:
        """The position after the escape that begins here."""
        data = self.data
        at = self.at + 1
        byte = data[at]
        if byte == _LOWER_U:
            digits = 0
            while digits < 4:
                at += 1
                byte = data[at]
                if not (_ZERO <= byte <= _NINE or 0x41 <= byte <= 0x46 or 0x61 <= byte <= 0x66):
                    raise self.refusal("an escape of four hexadecimal digits")
                digits += 1
            return at + 1
        if byte in (_QUOTE, _BACKSLASH, 0x2F, 0x62, _LOWER_F, _LOWER_N, 0x72, _LOWER_T):
            return at + 1
        raise self.refusal("an escape that JSON knows")

    def characters(self) -> str:
        """The string read last."""
        if self.is_plain:
            return self.data[self.start : self.stop].decode()
        return _unescape(self.data[self.start : self.stop])

    def piece(self) -> bytes:
        """The string read last in the form that values are compared in."""
        if self.is_plain:
            return self.data[self.start - 1 : self.stop + 1]
        return _quote(self.characters())

    def is_named(self, name: bytes) -> bool:
        """Whether the string read last is `name` in any case."""
        if not self.is_plain:
            return self.characters().lower().encode() == name
        length = len(name)
        if self.stop - self.start != length:
            return False
        wanted = name
        data = self.data
        at = self.start
        position = 0
        while position < length:
            byte = data[at + position]
            if 0x41 <= byte <= 0x5A:
                byte += 32
            if byte != wanted[position]:
                return False
            position += 1
        return True

    def is_null(self) -> bool:
        """Read a null, if there is one."""
        if self.peek() != _LOWER_N:
            return False
        self.word(b"null")
        return True

    def word(self, name: bytes) -> None:
        data = self.data
        wanted = name
        length = len(name)
        position = 0
        while position < length:
            if data[self.at + position] != wanted[position]:
                raise self.refusal("a JSON value")
            position += 1
        self.at += position

    def opens(self) -> bool:
        """Read an object's brace; whether a member follows."""
        if self.peek() != _OPEN_OBJECT:
            raise self.refusal("an object")
        self.at += 1
        if self.peek() == _CLOSE_OBJECT:
            self.at += 1
            return False
        return True

    def key(self) -> None:
        """Read a member's name and colon."""
        self.string()
        if self.peek() != _COLON:
            raise self.refusal("a colon")
        self.at += 1

    def goes_on(self) -> bool:
        """Read what follows a member; whether another member follows."""
        byte = self.peek()
        self.at += 1
        if byte == _COMMA:
            return True
        if byte != _CLOSE_OBJECT:
            self.at -= 1
            raise self.refusal("a comma or a closing brace")
        return False

    def whole(self) -> int:
        """Read a whole number of 64 bits."""
        byte = self.peek()
        data = self.data
        at = self.at
        is_negative = byte == _MINUS
        if is_negative:
            at += 1
        start = at
        number = 0
        while True:
            byte = data[at]
            if byte < _ZERO or byte > _NINE:
                break
            digit = byte - _ZERO
            if number > (_MAX_INT64 - digit) // 10:
                raise self.refusal("a number of 64 bits")
            number = number * 10 + digit
            at += 1
        if at == start or byte in (_DOT, _LOWER_E, _UPPER_E) or (data[start] == _ZERO and at > start + 1):
            raise self.refusal("a whole number")
        self.at = at
        return -number if is_negative else number

    def skip(self, depth: int) -> None:
        """Read any value."""
        if depth > _MAX_DEPTH:
            raise self.refusal(f"no more than {MAX_DEPTH} levels")
        byte = self.peek()
        if byte == _QUOTE:
            self.string()
        elif byte == _OPEN_OBJECT:
            more = self.opens()
            while more:
                self.key()
                self.skip(depth + 1)
                more = self.goes_on()
        elif byte == _OPEN_ARRAY:
            self.at += 1
            if self.peek() == _CLOSE_ARRAY:
                self.at += 1
                return
            while True:
                self.skip(depth + 1)
                byte = self.peek()
                self.at += 1
                if byte == _CLOSE_ARRAY:
                    break
                if byte != _COMMA:
                    self.at -= 1
                    raise self.refusal("a comma or a closing bracket")
        elif byte == _LOWER_T:
            self.word(b"true")
        elif byte == _LOWER_F:
            self.word(b"false")
        elif byte == _LOWER_N:
            self.word(b"null")
        else:
            self.number()

    def digits(self) -> None:
        """Read one digit or more."""
        byte = self.data[self.at]
        if byte < _ZERO or byte > _NINE:
            raise self.refusal("a digit")
        while _ZERO <= byte <= _NINE:
            self.at += 1
            byte = self.data[self.at]

    def number(self) -> None:
        """Read any number."""
        if self.data[self.at] == _MINUS:
            self.at += 1
        byte = self.data[self.at]
        if byte < _ZERO or byte > _NINE:
            raise self.refusal("a JSON value")
        if byte == _ZERO:
            self.at += 1
        else:
            self.digits()
        if self.data[self.at] == _DOT:
            self.at += 1
            self.digits()
        byte = self.data[self.at]
        if byte in (_LOWER_E, _UPPER_E):
            self.at += 1
            byte = self.data[self.at]
            if byte in (_MINUS, _PLUS):
                self.at += 1
            self.digits()

    def value(self, what: str) -> bytes | None:
        """Read a twin's value with its time, which goes to `value_at`; None for null."""
        self.value_at = 0
        if self.is_null():
            return None
        found = None
        more = self.opens()
        while more:
            self.key()
            if self.is_named(b"value"):
                if self.is_null():
                    found = None
                else:
                    self.string()
                    found = self.piece()
                    if self.is_strict:
                        self.check_value(found, what)
            elif self.is_named(b"metadata"):
                self.metadata_time()
            else:
                self.skip(1)
            more = self.goes_on()
        if found is None:
            raise TwinError(f"{what}: no value")
        return found

    def check_value(self, piece: bytes, what: str) -> None:
        if len(piece) - 2 > _MAX_VALUE:
            raise TwinError(f"{what}: the value is {len(piece) - 2} characters long; at most {_MAX_VALUE} are accepted")
        if not self.is_word and not _is_word(piece):
            raise TwinError(f"{what}: the value may have letters, digits and -_.,:/@# only")

    def metadata_time(self) -> None:
        if self.is_null():
            return
        more = self.opens()
        while more:
            self.key()
            if self.is_named(b"timestamp"):
                self.value_at = 0 if self.is_null() else self.whole()
            else:
                self.skip(1)
            more = self.goes_on()

    def version(self) -> None:
        """Read a version to `first` (cloud) and `second` (edge); -1 for absence."""
        self.first = -1
        self.second = -1
        if self.is_null():
            return
        self.first = 0
        self.second = 0
        more = self.opens()
        while more:
            self.key()
            if self.is_named(b"cloud"):
                self.first = 0 if self.is_null() else self.whole()
            elif self.is_named(b"edge"):
                self.second = 0 if self.is_null() else self.whole()
            else:
                self.skip(1)
            more = self.goes_on()
        if self.first < 0 or self.second < 0:
            raise self.refusal("a version that is not negative")

    def boolean(self) -> int:
        """Read true (1), false (0) or null (-1)."""
        byte = self.peek()
        if byte == _LOWER_T:
            self.word(b"true")
            return 1
        if byte == _LOWER_F:
            self.word(b"false")
            return 0
        if not self.is_null():
            raise self.refusal("true or false")
        return -1

    def type(self) -> bytes:
        """Read a twin's metadata; the type when it is one of those known, else b""."""
        found = b""
        if self.is_null():
            return found
        more = self.opens()
        while more:
            self.key()
            if self.is_named(b"type"):
                if self.is_null():
                    found = b""
                else:
                    self.string()
                    found = _TYPES.get(self.data[self.start : self.stop], b"")
            else:
                self.skip(1)
            more = self.goes_on()
        return found

    def twin(self, change: _Change) -> None:
        """Read one twin."""
        if self.is_null():
            change.is_null = True
            return
        more = self.opens()
        while more:
            self.key()
            if self.is_named(b"actual"):
                change.reported = self.value("actual")
                change.reported_at = self.value_at
            elif self.is_named(b"expected"):
                change.desired = self.value("expected")
                change.desired_at = self.value_at
            elif self.is_named(b"metadata"):
                change.type = self.type()
            elif self.is_named(b"optional"):
                change.optional = self.boolean()
            elif self.is_named(b"expected_version"):
                self.version()
                change.desired_cloud = self.first
                change.desired_edge = self.second
            elif self.is_named(b"actual_version"):
                self.version()
                change.reported_cloud = self.first
                change.reported_edge = self.second
            elif self.is_named(b"overridden") and not self.is_strict:
                self.string()
                change.overridden = self.piece()
            else:
                self.skip(1)
            more = self.goes_on()

    def twins(self) -> list[_Change]:
        """Read the map of twins: the changes in the order of their names."""
        changes = []
        last = b""
        is_sorted = True
        more = self.opens()
        while more:
            self.key()
            if self.is_strict and (not self.is_word or self.stop == self.start or self.stop - self.start > _MAX_NAME):
                self.check_name()
            name = self.data[self.start : self.stop] if self.is_plain else self.characters().encode()
            if not name or len(name) > _MAX_VALUE:
                raise TwinError(f"a property's name has 1 to {_MAX_NAME} characters")
            change = _change(name)
            try:
                self.twin(change)
            except TwinError as error:
                raise TwinError(f"property {name.decode()}: {error}") from None
            changes.append(change)
            is_sorted = is_sorted and last < name
            last = name
            if len(changes) > _MAX_TWINS:
                raise TwinError(f"more than {MAX_TWINS} properties")
            more = self.goes_on()
        if is_sorted:
            return changes
        found = {change.name: change for change in changes}
        return [found[name] for name in sorted(found)]

    def check_name(self) -> None:
        text = self.characters()
        if not 0 < len(text) <= _MAX_NAME or not _is_word(b'"' + text.encode() + b'"'):
            raise TwinError(f"property {text[:_MAX_NAME]}: a name has 1 to {_MAX_NAME} letters, digits and -_.,:/@#")

    def update(self) -> list[_Change]:
        """Read the whole message: the changes in the order of their names."""
        changes = None
        more = self.opens()
        while more:
            self.key()
            if self.is_named(b"twin"):
                changes = None if self.is_null() else self.twins()
            elif self.is_named(b"event_id"):
                if self.is_null():
                    self.event_id = ""
                else:
                    self.string()
                    self.event_id = self.characters()
            elif self.is_named(b"timestamp"):
                if not self.is_null():
                    self.whole()
            else:
                self.skip(1)
            more = self.goes_on()
        if self.peek() != 0 or self.at != self.end:
            raise self.refusal("the end")
        if changes is None:
            raise TwinError("the message has no twin")
        return changes


def _reader(payload: bytes, is_strict: bool) -> _Reader:
    """A reader at the beginning of `payload`. Raises TwinError when that is no UTF-8."""
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise TwinError(f"the message is no UTF-8 at byte {error.start}") from None
    reader = _Reader.__new__(_Reader)
    reader.text = payload + b"\0"
    reader.data = reader.text
    reader.end = len(payload)
    reader.at = 0
    reader.start = 0
    reader.stop = 0
    reader.is_plain = True
    reader.is_word = True
    reader.is_strict = is_strict
    reader.first = 0
    reader.second = 0
    reader.value_at = 0
    reader.event_id = ""
    return reader


def _is_word(piece: bytes) -> bool:
    """Whether a quoted text has only characters that clients may use."""
    table = _CLASSES
    data = piece
    at = 1
    last = len(piece) - 1
    while at < last:
        if table[data[at]] != _WORD:
            return False
        at += 1
    return True


def _fault(kind: bytes, piece: bytes) -> str:
    """What is wrong with a value for a type, "" when it fits. The value that unsets always does."""
    if kind == _STRING or piece == _UNSET:
        return ""
    if kind in (_INT, _INTEGER):
        is_negative = piece[1] == _MINUS
        text = piece[2 : len(piece) - 1] if is_negative else piece[1 : len(piece) - 1]
        if not text.isdigit() or int(text[:40]) > _MAX_INT64 or len(text) > 40:
            return "the value is no whole number"
    elif kind == _FLOAT:
        try:
            number = float(piece[1 : len(piece) - 1])
        except ValueError:
            return "the value is no number"
        if b"_" in piece or b" " in piece or (number - number != 0 and b"n" not in piece.lower()):
            return "the value is no number"
    elif kind == _BOOLEAN and piece not in (b'"true"', b'"false"'):
        return "the value is neither true nor false"
    return ""


class _Twin:
    """One property. `cloud` is what the cloud wants; `desired` is in force and differs from it after a client here wrote another."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.label = name.decode()
        self.key = _quote(self.label) + b":"
        self.next_key = b"," + self.key
        self.cloud: bytes | None = None
        self.desired: bytes | None = None
        self.desired_at = 0
        self.desired_cloud = 0
        self.desired_edge = 0
        self.reported: bytes | None = None
        self.reported_at = 0
        self.reported_cloud = 0
        self.reported_edge = 0
        self.optional = True
        self.type = _STRING
        self.is_deleted = True
        self.differs = False
        self.expected = b""
        self.actual = b""
        self.tail = b""
        self.full = b""
        self.expected_version = b""
        self.actual_version = b""
        self.set_desired_version()
        self.set_reported_version()

    def set_desired(self, piece: bytes | None, at: int) -> None:
        self.desired = piece
        self.desired_at = at
        if piece is None:
            self.expected = b""
        else:
            self.expected = b"".join((b'"expected":{"value":', piece, b',"metadata":{"timestamp":', _number(at), b"}},"))

    def set_reported(self, piece: bytes | None, at: int, stamp: bytes) -> None:
        """`stamp` is `at` as text."""
        self.reported = piece
        self.reported_at = at
        if piece is None:
            self.actual = b""
        else:
            self.actual = b"".join((b'"actual":{"value":', piece, b',"metadata":{"timestamp":', stamp, b"}},"))

    def set_tail(self) -> None:
        kind = _DELETED if self.is_deleted else self.type
        self.tail = (b'"optional":true' if self.optional else b'"optional":false') + b',"metadata":{"type":"' + kind + b'"}'

    def set_desired_version(self) -> None:
        self.expected_version = f',"expected_version":{{"cloud":{self.desired_cloud},"edge":{self.desired_edge}}}'.encode()

    def set_reported_version(self) -> None:
        self.actual_version = f',"actual_version":{{"cloud":{self.reported_cloud},"edge":{self.reported_edge}}}'.encode()

    def settle(self) -> None:
        """Put the pieces together after a change."""
        self.full = b"".join((b"{", self.expected, self.actual, self.tail, b"}"))
        self.differs = self.desired is not None and self.desired != self.reported

    def erase(self) -> None:
        """What remains of a deleted twin are its versions."""
        self.cloud = None
        self.is_deleted = True
        self.optional = True
        self.set_desired(None, 0)
        self.set_reported(None, 0, b"0")
        self.set_tail()
        self.settle()

    def row(self) -> bytes:
        """The twin as it is stored."""
        overridden = b""
        if self.cloud != self.desired:
            overridden = b',"overridden":' + (_UNSET if self.cloud is None else self.cloud)
        return b"".join((b"{", self.expected, self.actual, self.tail, self.expected_version, self.actual_version, overridden, b"}"))

    def report(self) -> bytes:
        """The twin as the cloud is told: the desired value stands there when the device has acted on it, or when a client here wrote it."""
        actual_version = b"" if self.reported is None else self.actual_version
        if self.desired is not None and (self.desired == self.reported or self.desired != self.cloud):
            return b"".join((b"{", self.expected, self.actual, self.tail, self.expected_version, actual_version, b"}"))
        return b"".join((b"{", self.actual, self.tail, actual_version, b"}"))


class DeviceTwins:
    """All twins of one device. One thread's own; times are Unix milliseconds.

    A desired value of the cloud has the version of the Device it came with; an older one never replaces a newer one. A client's own
    desired value is in force until the cloud wants something else than it wanted before; it never keeps the cloud out.
    """

    def __init__(self) -> None:
        self._twins: dict[bytes, _Twin] = {}
        self._order: list[_Twin] = []
        self._differing = 0

    def __len__(self) -> int:
        """How many properties there are, deleted ones not counted."""
        return len(self.names())

    def _add(self, name: bytes) -> _Twin:
        twin = _Twin(name)
        self._twins[name] = twin
        at = len(self._order)
        while at > 0:
            before = self._order[at - 1]
            if before.name < name:
                break
            at -= 1
        self._order.insert(at, twin)
        return twin

    def _settle(self, twin: _Twin) -> None:
        before = twin.differs
        twin.settle()
        if twin.differs != before:
            self._differing += 1 if twin.differs else -1

    def _make_room(self, wanted: int) -> None:
        """Forget deleted twins that the cloud never had, when they are in the way. Raises TwinError."""
        if len(self._twins) + wanted <= _MAX_TWINS:
            return
        kept: list[_Twin] = []
        for twin in self._order:
            if twin.is_deleted and twin.desired_cloud == 0:
                del self._twins[twin.name]
            else:
                kept.append(twin)
        self._order = kept
        if len(self._twins) + wanted > _MAX_TWINS:
            raise TwinError(f"a device has at most {MAX_TWINS} properties")

    def load(self, rows: Mapping[str, bytes]) -> dict[str, str]:
        """Take the stored rows of a device. Gives property → reason for those that cannot be read; they are left out."""
        failed: dict[str, str] = {}
        for label, row in rows.items():
            change = _change(label.encode())
            try:
                reader = _reader(row, False)
                reader.twin(change)
            except TwinError as error:
                failed[label] = str(error)
                continue
            twin = self._twins.get(change.name)
            if twin is None:
                twin = self._add(change.name)
            self._restore(twin, change)
        return failed

    def _restore(self, twin: _Twin, change: _Change) -> None:
        twin.is_deleted = change.type == _DELETED
        twin.type = change.type if change.type and not twin.is_deleted else _STRING
        twin.optional = change.optional != 0
        twin.set_desired(change.desired, change.desired_at)
        twin.cloud = change.desired if change.overridden is None else change.overridden
        if twin.cloud == _UNSET:
            twin.cloud = None
        twin.desired_cloud = max(change.desired_cloud, 0)
        twin.desired_edge = max(change.desired_edge, 0)
        twin.set_reported(change.reported, change.reported_at, _number(change.reported_at))
        twin.reported_cloud = max(change.reported_cloud, 0)
        twin.reported_edge = max(change.reported_edge, 0)
        twin.set_desired_version()
        twin.set_reported_version()
        twin.set_tail()
        self._settle(twin)

    def apply_update(self, payload: bytes, now: int) -> records.Outcome:
        """Take a client's `twin/update`, all of it or nothing. Raises TwinError."""
        reader = _reader(payload, True)
        try:
            changes = reader.update()
            self._check(changes)
        except TwinError as error:
            error.event_id = reader.event_id
            raise
        outcome = records.new_outcome(reader.event_id)
        self._update(changes, now, outcome)
        outcome.delta = self.delta()
        return outcome

    def _check(self, changes: list[_Change]) -> None:
        """Whether every change can be carried out. Raises TwinError."""
        added = 0
        for change in changes:
            twin = self._twins.get(change.name)
            if change.is_null:
                if twin is not None and not twin.is_deleted and not twin.optional:
                    raise TwinError(f"property {twin.label}: it is not optional and cannot be deleted")
                continue
            if change.type == _DELETED:
                change.type = b""
            if twin is None:
                added += 1
            kind = change.type if twin is None or twin.is_deleted else twin.type
            if kind and kind != _STRING:
                fault = ""
                if change.desired is not None:
                    fault = _fault(kind, change.desired)
                if not fault and change.reported is not None:
                    fault = _fault(kind, change.reported)
                if fault:
                    raise TwinError(f"property {change.name.decode()}: {fault}")
        if added:
            self._make_room(added)

    def _update(self, changes: list[_Change], now: int, outcome: records.Outcome) -> None:
        stamp = _number(now)
        result = [_OPENING]
        document = [_OPENING]
        rows = outcome.rows
        reports = outcome.reports
        for change in changes:
            twin = self._twins.get(change.name)
            if change.is_null:
                if twin is None or twin.is_deleted:
                    continue
                last = twin.full
                self._erase(twin)
                twin.desired_edge += 1
                twin.set_desired_version()
                twin.reported_edge += 1
                twin.set_reported_version()
                result.append(twin.next_key if len(result) > 1 else twin.key)
                result.append(b"null")
                _document(document, twin, last, b"null")
                rows[twin.label] = twin.row()
                continue
            if twin is None:
                twin = self._add(change.name)
            is_new = twin.is_deleted
            is_changed = is_new
            is_told = False
            last = twin.full
            if is_new:
                last = b"null"
                twin.is_deleted = False
                twin.type = change.type or _STRING
                twin.optional = change.optional != 0
                twin.set_tail()
            elif change.optional == 0 and twin.optional:
                twin.optional = False
                twin.set_tail()
                is_changed = True
            if change.desired is not None:
                desired = None if change.desired == _UNSET else change.desired
                if desired != twin.desired:
                    is_changed = True
                    is_told = True
                    twin.desired_edge += 1
                    twin.set_desired_version()
                twin.set_desired(desired, now)
            if change.reported is not None:
                if change.reported != twin.reported:
                    is_changed = True
                    is_told = True
                    twin.reported_edge += 1
                    twin.set_reported_version()
                twin.set_reported(change.reported, now, stamp)
            elif change.desired is None and not is_changed:
                continue
            self._settle(twin)
            result.append(twin.next_key if len(result) > 1 else twin.key)
            if is_new:
                result.append(twin.full)
            else:
                result.append(b"{")
                if change.desired is not None:
                    result.append(twin.expected)
                if change.reported is not None:
                    result.append(twin.actual)
                result.append(twin.tail)
                result.append(b"}")
            _document(document, twin, last, twin.full)
            if is_changed:
                rows[twin.label] = twin.row()
                if is_told:
                    reports[twin.label] = twin.report()
        outcome.result = _closed(result)
        if len(document) > 1:
            outcome.document = _closed(document)

    def _erase(self, twin: _Twin) -> None:
        if twin.differs:
            self._differing -= 1
        twin.erase()

    def apply_desired(self, payload: bytes, now: int, version: int = -1) -> records.Outcome:
        """Take the desired values the cloud sent, in the shape of a `twin/update` with versions; each property by itself.

        A `version` that is not negative says that `payload` names all desired values of the Device of that version, so that the cloud
        wants nothing of the others any more. Raises TwinError when nothing can be read.
        """
        reader = _reader(payload, False)
        changes = reader.update()
        outcome = records.new_outcome(reader.event_id)
        document = [_OPENING]
        named = set()
        for change in changes:
            named.add(change.name)
            reason = self._want(change, now, version, outcome, document)
            if reason:
                outcome.refused.append((change.name.decode(), reason))
        if version >= 0:
            for twin in self._order:
                if twin.cloud is not None and twin.name not in named and twin.desired_cloud <= version:
                    last = twin.full
                    twin.desired_cloud = version
                    twin.set_desired_version()
                    self._unwant(twin, now)
                    self._record(twin, last, outcome, document)
        if len(document) > 1:
            outcome.document = _closed(document)
        outcome.delta = self.delta()
        return outcome

    def _want(self, change: _Change, now: int, version: int, outcome: records.Outcome, document: list[bytes]) -> str:
        """Take one desired value of the cloud; a reason when it is not taken."""
        twin = self._twins.get(change.name)
        if change.desired_cloud >= 0:
            version = change.desired_cloud
        desired = change.desired
        if change.type == _DELETED or desired == _UNSET:
            desired = None
        if twin is None:
            if desired is None and change.type != _DELETED:
                return ""
            try:
                self._make_room(1)
            except TwinError as error:
                return str(error)
        elif 0 <= version < twin.desired_cloud:
            return f"version {version} is older than {twin.desired_cloud}"
        kind = change.type
        if kind in (b"", _DELETED):
            kind = _STRING if twin is None or twin.is_deleted else twin.type
        if desired is not None:
            fault = _fault(kind, desired)
            if fault:
                return fault
        if twin is None:
            twin = self._add(change.name)
        last = b"null" if twin.is_deleted else twin.full
        is_stored = 0 <= version != twin.desired_cloud
        if is_stored:
            twin.desired_cloud = version
            twin.set_desired_version()
        if desired is None:
            if twin.cloud is None:
                if is_stored:
                    if twin.is_deleted:
                        twin.set_tail()
                        self._settle(twin)
                    outcome.rows[twin.label] = twin.row()
                return ""
            self._unwant(twin, now)
            self._record(twin, last, outcome, document)
            return ""
        optional = change.optional != 0 and (twin.is_deleted or twin.optional)
        is_changed = desired != twin.cloud
        if twin.is_deleted or kind != twin.type or optional != twin.optional:
            is_stored = True
            twin.is_deleted = False
            twin.type = kind
            twin.optional = optional
            twin.set_tail()
        if is_changed:
            twin.cloud = desired
            twin.set_desired(desired, now)
        self._settle(twin)
        if is_changed:
            self._record(twin, last, outcome, document)
        elif is_stored:
            outcome.rows[twin.label] = twin.row()
        return ""

    def _unwant(self, twin: _Twin, now: int) -> None:
        """The cloud wants nothing any more; what the device reported stays."""
        if twin.reported is None:
            self._erase(twin)
            return
        twin.cloud = None
        twin.optional = True
        twin.set_desired(None, now)
        twin.set_tail()
        self._settle(twin)

    def _record(self, twin: _Twin, last: bytes, outcome: records.Outcome, document: list[bytes]) -> None:
        outcome.rows[twin.label] = twin.row()
        _document(document, twin, last, b"null" if twin.is_deleted else twin.full)

    def members(self) -> bytes:
        """All twins, for `twin/get` and membership."""
        pieces = [_OPENING]
        for twin in self._order:
            if not twin.is_deleted:
                pieces.append(twin.next_key if len(pieces) > 1 else twin.key)
                pieces.append(twin.full)
        return _closed(pieces)

    def delta(self) -> bytes:
        """The desired values not yet reported equal, with all twins that have a desired value; b"" when there are none."""
        if self._differing == 0:
            return b""
        twins = [_OPENING]
        delta: list[bytes] = []
        for twin in self._order:
            if twin.desired is not None:
                twins.append(twin.next_key if len(twins) > 1 else twin.key)
                twins.append(twin.full)
                if twin.differs:
                    delta.append(twin.next_key if delta else twin.key)
                    delta.append(twin.desired)
        twins.append(b'},"delta":{')
        twins += delta
        return _closed(twins)

    def report(self, property_name: str) -> bytes:
        """What the cloud is told of a property; b"" when there is nothing to tell."""
        twin = self._twins.get(property_name.encode())
        if twin is None or (twin.reported is None and (twin.desired is None or twin.desired == twin.cloud)):
            return b""
        return twin.report()

    def version(self) -> int:
        """The newest Device version that any desired value came with."""
        found = 0
        for twin in self._order:
            found = max(found, twin.desired_cloud)
        return found

    def names(self) -> list[str]:
        """The properties, deleted ones left out, in order."""
        return [twin.label for twin in self._order if not twin.is_deleted]


def _document(pieces: list[bytes], twin: _Twin, last: bytes, current: bytes) -> None:
    pieces.append(twin.next_key if len(pieces) > 1 else twin.key)
    pieces.append(b'{"last":')
    pieces.append(last)
    pieces.append(b',"current":')
    pieces.append(current)
    pieces.append(b"}")


def _closed(pieces: list[bytes]) -> bytes:
    """The member `twin` that begins with `_OPENING`."""
    pieces.append(b"}")
    return b"".join(pieces)


def twin_members(items: Mapping[str, bytes]) -> bytes:
    """Property → JSON text as the member `twin` of a message, in Go's order."""
    return b'"twin":{' + b",".join([_quote(name) + b":" + items[name] for name in sorted(items)]) + b"}"


def message(event_id: str, timestamp: int, members: bytes) -> bytes:
    """The message with these members after event id and time (Unix milliseconds)."""
    text = b'{"event_id":' + _quote(event_id) + b',"timestamp":' + _number(timestamp)
    return text + b"," + members + b"}" if members else text + b"}"
