cimport cython
from pinnace.ext cimport records_c as records

cdef Py_ssize_t _MAX_DEPTH

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
cdef unsigned char _SPACE
cdef unsigned char _SLASH
cdef unsigned char _LOWER_U
cdef unsigned char _LOWER_E
cdef unsigned char _LOWER_N
cdef unsigned char _LOWER_T
cdef unsigned char _LOWER_F

cdef int _NO_FIELD
cdef int _HEADER
cdef int _ROUTE
cdef int _CONTENT
cdef int _MSG_ID
cdef int _PARENT_ID
cdef int _TIMESTAMP
cdef int _RESOURCE_VERSION
cdef int _SYNC
cdef int _TYPE
cdef int _SOURCE
cdef int _DESTINATION
cdef int _GROUP
cdef int _OPERATION
cdef int _RESOURCE

cdef tuple _FIELD_NAMES
cdef dict _ESCAPED
cdef dict _ESCAPES



@cython.locals(byte="unsigned char")
cdef Py_ssize_t _blank(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) noexcept

cdef bint _is_hex(unsigned char byte) noexcept

@cython.locals(byte="unsigned char")
cdef Py_ssize_t _string(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(byte="unsigned char")
cdef Py_ssize_t _number(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(byte="unsigned char")
cdef Py_ssize_t _word(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(byte="unsigned char")
cdef Py_ssize_t _scalar(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) noexcept

cdef Py_ssize_t _key(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(byte="unsigned char", depth=Py_ssize_t)
cdef Py_ssize_t _value(const unsigned char* text, Py_ssize_t at, Py_ssize_t end, unsigned char* levels) noexcept

@cython.locals(byte="unsigned char")
cdef Py_ssize_t _any(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) except? -1

@cython.locals(byte="unsigned char", position=Py_ssize_t)
cdef bint _same(const unsigned char* text, Py_ssize_t at, Py_ssize_t end, const unsigned char* name) noexcept

@cython.locals(length=Py_ssize_t)
cdef int _field(const unsigned char* text, Py_ssize_t at, Py_ssize_t end, int owner) noexcept

@cython.locals(byte="unsigned char")
cdef bint _is_plain(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(parts=list, found=list, position=Py_ssize_t, text=str, part=str, unit=int, low=int)
cdef str _unescape(bytes raw)

@cython.locals(number="long long", position=Py_ssize_t, negative=bint)
cdef object _integer(const unsigned char* text, Py_ssize_t at, Py_ssize_t end)

@cython.locals(text="const unsigned char*", size=Py_ssize_t, at=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t, field=int, byte="unsigned char", string=str)
cdef Py_ssize_t _members(bytes data, Py_ssize_t cursor, int owner, records.Envelope message) except -1

@cython.locals(size=Py_ssize_t, at=Py_ssize_t, message=records.Envelope)
cpdef records.Envelope decode(bytes data)

@cython.locals(character=Py_UCS4)
cdef bint _needs_no_escape(str text) noexcept

cdef str _escaped(str text)

cdef str _member(str name, str value)

@cython.locals(sync=str, header=str, route=str)
cpdef bytes encode(records.Envelope envelope)
