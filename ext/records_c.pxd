cimport cython
from libc.stdint cimport int64_t

@cython.final
cdef class Envelope:
    cdef public str msg_id
    cdef public str parent_id
    cdef public int64_t timestamp
    cdef public str resource_version
    cdef public bint sync
    cdef public str type
    cdef public str source
    cdef public str destination
    cdef public str group
    cdef public str operation
    cdef public str resource
    cdef public bytes body

@cython.final
cdef class Outcome:
    cdef public str event_id
    cdef public bytes result
    cdef public bytes document
    cdef public bytes delta
    cdef public dict rows
    cdef public dict reports
    cdef public list refused

@cython.locals(message=Envelope)
cpdef Envelope empty_envelope()

@cython.locals(outcome=Outcome)
cpdef Outcome new_outcome(str event_id)
