cimport cython
from libc.stdint cimport int64_t
from pinnace.ext cimport records_c as records

cdef Py_ssize_t _MAX_TWINS
cdef Py_ssize_t _MAX_DEPTH
cdef Py_ssize_t _MAX_NAME
cdef Py_ssize_t _MAX_VALUE
cdef int64_t _MAX_INT64

cdef unsigned char _QUOTE
cdef unsigned char _BACKSLASH
cdef unsigned char _COLON
cdef unsigned char _COMMA
cdef unsigned char _OPEN_OBJECT
cdef unsigned char _CLOSE_OBJECT
cdef unsigned char _OPEN_ARRAY
cdef unsigned char _CLOSE_ARRAY
cdef unsigned char _MINUS
cdef unsigned char _PLUS
cdef unsigned char _DOT
cdef unsigned char _ZERO
cdef unsigned char _NINE
cdef unsigned char _LOWER_U
cdef unsigned char _LOWER_E
cdef unsigned char _UPPER_E
cdef unsigned char _LOWER_N
cdef unsigned char _LOWER_T
cdef unsigned char _LOWER_F

cdef unsigned char _WORD
cdef unsigned char _TEXT
cdef unsigned char _FOREIGN
cdef unsigned char _ESCAPE
cdef unsigned char _CLOSING
cdef unsigned char _ILLEGAL

cdef bytes _CLASSES
cdef object _ESCAPED
cdef dict _PLAIN_ESCAPES
cdef dict _ESCAPES
cdef bytes _OPENING
cdef bytes _UNSET
cdef bytes _DELETED
cdef bytes _STRING
cdef bytes _INT
cdef bytes _INTEGER
cdef bytes _FLOAT
cdef bytes _BOOLEAN
cdef dict _TYPES

@cython.locals(piece=bytes)
cdef bytes _quote(str text)

cdef bytes _number(int64_t value)

@cython.locals(table="const unsigned char*", data="const unsigned char*", at=Py_ssize_t, last=Py_ssize_t)
cdef bint _is_word(bytes piece) except -1

@cython.locals(text=bytes, number=double, is_negative=bint)
cdef str _fault(bytes kind, bytes piece)

@cython.final
cdef class _Change:
    cdef bytes name
    cdef bint is_null
    cdef bytes desired
    cdef int64_t desired_at
    cdef int64_t desired_cloud
    cdef int64_t desired_edge
    cdef bytes overridden
    cdef bytes reported
    cdef int64_t reported_at
    cdef int64_t reported_cloud
    cdef int64_t reported_edge
    cdef int optional
    cdef bytes type

@cython.locals(change=_Change)
cdef _Change _change(bytes name)

@cython.final
cdef class _Reader:
    cdef bytes text
    cdef const unsigned char* data
    cdef Py_ssize_t end
    cdef Py_ssize_t at
    cdef Py_ssize_t start
    cdef Py_ssize_t stop
    cdef bint is_plain
    cdef bint is_word
    cdef bint is_strict
    cdef int64_t first
    cdef int64_t second
    cdef int64_t value_at
    cdef str event_id

    cdef object refusal(self, str wanted)

    @cython.locals(byte="unsigned char", data="const unsigned char*", at=Py_ssize_t)
    cdef int peek(self) noexcept

    @cython.locals(table="const unsigned char*", data="const unsigned char*", at=Py_ssize_t, kind="unsigned char", is_plain=bint, is_word=bint)
    cdef object string(self)

    @cython.locals(data="const unsigned char*", at=Py_ssize_t, byte="unsigned char", digits=Py_ssize_t)
    cdef Py_ssize_t escape(self) except -1

    cdef str characters(self)

    cdef bytes piece(self)

    @cython.locals(data="const unsigned char*", wanted="const unsigned char*", length=Py_ssize_t, at=Py_ssize_t, position=Py_ssize_t, byte="unsigned char")
    cdef bint is_named(self, bytes name) except -1

    cdef bint is_null(self) except -1

    @cython.locals(data="const unsigned char*", wanted="const unsigned char*", position=Py_ssize_t, length=Py_ssize_t)
    cdef object word(self, bytes name)

    cdef bint opens(self) except -1

    cdef object key(self)

    @cython.locals(byte="unsigned char")
    cdef bint goes_on(self) except -1

    @cython.locals(data="const unsigned char*", at=Py_ssize_t, start=Py_ssize_t, byte="unsigned char", is_negative=bint, number=int64_t, digit=int64_t)
    cdef int64_t whole(self) except? -1

    @cython.locals(byte="unsigned char", more=bint)
    cdef object skip(self, Py_ssize_t depth)

    @cython.locals(byte="unsigned char")
    cdef object digits(self)

    @cython.locals(byte="unsigned char")
    cdef object number(self)

    @cython.locals(found=bytes, more=bint)
    cdef bytes value(self, str what)

    cdef object check_value(self, bytes piece, str what)

    @cython.locals(more=bint)
    cdef object metadata_time(self)

    @cython.locals(more=bint)
    cdef object version(self)

    @cython.locals(byte="unsigned char")
    cdef int boolean(self) except -2

    @cython.locals(found=bytes, more=bint)
    cdef bytes type(self)

    @cython.locals(more=bint)
    cdef object twin(self, _Change change)

    @cython.locals(changes=list, found=dict, last=bytes, name=bytes, change=_Change, is_sorted=bint, more=bint)
    cdef list twins(self)

    @cython.locals(text=str)
    cdef object check_name(self)

    @cython.locals(changes=list, more=bint)
    cdef list update(self)

@cython.locals(reader=_Reader)
cdef _Reader _reader(bytes payload, bint is_strict)

@cython.final
cdef class _Twin:
    cdef bytes name
    cdef str label
    cdef bytes key
    cdef bytes cloud
    cdef bytes desired
    cdef int64_t desired_at
    cdef int64_t desired_cloud
    cdef int64_t desired_edge
    cdef bytes reported
    cdef int64_t reported_at
    cdef int64_t reported_cloud
    cdef int64_t reported_edge
    cdef bint optional
    cdef bytes type
    cdef bint is_deleted
    cdef bint differs
    cdef bytes expected
    cdef bytes actual
    cdef bytes tail
    cdef bytes full
    cdef bytes next_key
    cdef bytes expected_version
    cdef bytes actual_version

    cdef object set_desired(self, bytes piece, int64_t at)
    cdef object set_reported(self, bytes piece, int64_t at, bytes stamp)
    @cython.locals(kind=bytes)
    cdef object set_tail(self)
    cdef object set_desired_version(self)
    cdef object set_reported_version(self)
    cdef object settle(self)
    cdef object erase(self)
    @cython.locals(overridden=bytes)
    cdef bytes row(self)
    @cython.locals(actual_version=bytes)
    cdef bytes report(self)

@cython.final
cdef class DeviceTwins:
    cdef dict _twins
    cdef list _order
    cdef Py_ssize_t _differing

    @cython.locals(twin=_Twin, before=_Twin, at=Py_ssize_t)
    cdef _Twin _add(self, bytes name)

    @cython.locals(before=bint)
    cdef object _settle(self, _Twin twin)

    @cython.locals(kept=list, twin=_Twin)
    cdef object _make_room(self, Py_ssize_t wanted)

    cdef object _restore(self, _Twin twin, _Change change)

    @cython.locals(added=Py_ssize_t, change=_Change, twin=_Twin, kind=bytes, fault=str)
    cdef object _check(self, list changes)

    @cython.locals(stamp=bytes, result=list, document=list, rows=dict, reports=dict, change=_Change, twin=_Twin, is_new=bint,
                   is_changed=bint, is_told=bint, last=bytes, desired=bytes)
    cdef object _update(self, list changes, int64_t now, records.Outcome outcome)

    cdef object _erase(self, _Twin twin)

    @cython.locals(twin=_Twin, desired=bytes, kind=bytes, fault=str, last=bytes, is_stored=bint, is_changed=bint, optional=bint)
    cdef str _want(self, _Change change, int64_t now, int64_t version, records.Outcome outcome, list document)

    cdef object _unwant(self, _Twin twin, int64_t now)

    cdef object _record(self, _Twin twin, bytes last, records.Outcome outcome, list document)

    @cython.locals(reader=_Reader, changes=list, outcome=records.Outcome)
    cpdef records.Outcome apply_update(self, bytes payload, int64_t now)

    @cython.locals(reader=_Reader, changes=list, outcome=records.Outcome, change=_Change, twin=_Twin, document=list, named=set, reason=str, last=bytes)
    cpdef records.Outcome apply_desired(self, bytes payload, int64_t now, int64_t version=*)

    @cython.locals(twin=_Twin, twins=list, delta=list)
    cpdef bytes delta(self)

    @cython.locals(failed=dict, change=_Change, reader=_Reader, twin=_Twin)
    cpdef dict load(self, object rows)

    @cython.locals(twin=_Twin, pieces=list)
    cpdef bytes members(self)

    @cython.locals(twin=_Twin)
    cpdef bytes report(self, str property_name)

    @cython.locals(twin=_Twin, found=int64_t)
    cpdef int64_t version(self) except? -1

    @cython.locals(twin=_Twin)
    cpdef list names(self)

cpdef bytes twin_members(object items)

cpdef bytes message(str event_id, int64_t timestamp, bytes members)

cdef object _document(list pieces, _Twin twin, bytes last, bytes current)

cdef bytes _closed(list pieces)
