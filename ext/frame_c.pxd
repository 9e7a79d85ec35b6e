cimport cython
from pinnace.ext cimport records_c as records

cdef Py_ssize_t _HEADER_BYTES
cdef Py_ssize_t _MAX_PAYLOAD
cdef unsigned long long _ALL_BITS
cdef bytes _EMPTY_HEADER

cdef unsigned char _NUMBER
cdef unsigned char _EIGHT_BYTES
cdef unsigned char _BYTES
cdef unsigned char _FOUR_BYTES

cdef unsigned char _HEADER
cdef unsigned char _ROUTE
cdef unsigned char _CONTENT
cdef unsigned char _MSG_ID
cdef unsigned char _PARENT_ID
cdef unsigned char _TIMESTAMP
cdef unsigned char _SYNC
cdef unsigned char _RESOURCE_VERSION
cdef unsigned char _TYPE
cdef unsigned char _SOURCE
cdef unsigned char _GROUP
cdef unsigned char _OPERATION
cdef unsigned char _RESOURCE
cdef unsigned char _DESTINATION

cdef int _put_number(bytearray out, unsigned long long number) except -1

@cython.locals(raw=bytes)
cdef int _put_text(bytearray out, unsigned char key, str text) except -1

cdef unsigned long long _zigzag(long long number) noexcept

@cython.locals(size=Py_ssize_t, digits=bytearray)
cdef int _put_size(bytearray out, Py_ssize_t start) except -1

@cython.locals(start=Py_ssize_t, number="unsigned long long")
cdef int _put_fields(bytearray out, records.Envelope message) except -1

@cython.locals(message=records.Envelope, parts=list, head=bytearray, body=bytes, size=Py_ssize_t)
cpdef bytes pack(object envelopes)

@cython.locals(stop=Py_ssize_t)
cdef Py_ssize_t _after_number(const unsigned char* text, Py_ssize_t at, Py_ssize_t end) except -1

@cython.locals(number="unsigned long long", digits="unsigned long long", shift=int)
cdef unsigned long long _number(const unsigned char* text, Py_ssize_t at, Py_ssize_t stop) noexcept

@cython.final
cdef class FrameReader:
    cdef bytearray _pending
    cdef Py_ssize_t _wanted
    cdef unsigned long long _key
    cdef Py_ssize_t _start

    @cython.locals(key="unsigned long long", start=Py_ssize_t, kind="unsigned char", number="unsigned long long", size=Py_ssize_t)
    cdef Py_ssize_t _field(self, const unsigned char* text, Py_ssize_t at, Py_ssize_t end) except -1

    @cython.locals(start=Py_ssize_t, key="unsigned long long", number="unsigned long long", half="long long")
    cdef int _header(self, const unsigned char* text, Py_ssize_t at, Py_ssize_t end, records.Envelope message) except -1

    @cython.locals(start=Py_ssize_t, key="unsigned long long")
    cdef int _route(self, const unsigned char* text, Py_ssize_t at, Py_ssize_t end, records.Envelope message) except -1

    @cython.locals(start=Py_ssize_t, key="unsigned long long", message=records.Envelope)
    cdef records.Envelope _message(self, const unsigned char* text, Py_ssize_t at, Py_ssize_t end)

    @cython.locals(found=list, text="const unsigned char*", at=Py_ssize_t, size=Py_ssize_t, length=Py_ssize_t)
    cpdef list feed(self, bytes data)
