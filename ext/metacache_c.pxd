cimport cython

cdef Py_ssize_t _ENTRY_BYTES
cdef Py_ssize_t _LABEL_BYTES

@cython.final
cdef class _Entry:
    cdef bytes body
    cdef tuple labels
    cdef str name
    cdef _Entry newer
    cdef _Entry older
    cdef str version

@cython.final
cdef class _Space:
    cdef dict entries
    cdef list order

@cython.locals(entry=_Entry)
cdef _Entry _new_entry(str name)

@cython.locals(order=list, entries=dict, name=str)
cdef list _in_order(_Space space)

@cython.locals(found=list, key=str, value=str, at=Py_ssize_t)
cdef tuple _flat(dict labels)

@cython.locals(key=str, value=str, at=Py_ssize_t, size=Py_ssize_t)
cdef bint _is_flat(tuple flat, dict labels) except -1

@cython.locals(pair=tuple, key=str, value=str, at=Py_ssize_t, size=Py_ssize_t)
cdef bint _has_all(tuple labels, list wanted) except -1

cdef Py_ssize_t _weight(_Entry entry) except -1

@cython.final
cdef class MetaCache:
    cdef readonly Py_ssize_t max_bytes
    cdef readonly Py_ssize_t bytes_used
    cdef readonly Py_ssize_t evicted
    cdef Py_ssize_t _size
    cdef dict _kinds
    cdef _Entry _ring

    @cython.locals(kind=str, namespace=str, name=str, spaces=dict, space=_Space)
    cdef _Entry _find(self, key)

    @cython.locals(spaces=dict, space=_Space)
    cdef _Space _space(self, str kind, str namespace)

    cdef int _unlink(self, _Entry entry) except -1

    @cython.locals(ring=_Entry, newest=_Entry)
    cdef int _link(self, _Entry entry) except -1

    cdef int _take_body(self, _Entry entry) except -1

    cdef int _give_body(self, _Entry entry, bytes body) except -1

    @cython.locals(ring=_Entry, oldest=_Entry)
    cdef int _shrink(self) except -1

    @cython.locals(kind=str, namespace=str, name=str, space=_Space, entry=_Entry)
    cpdef put(self, key, str version, bytes body, dict labels=*)

    @cython.locals(entry=_Entry)
    cpdef bint restore(self, key, str version, bytes body) except -1

    @cython.locals(entry=_Entry)
    cpdef tuple get(self, key)

    @cython.locals(entry=_Entry, kind=str, namespace=str, name=str, spaces=dict, space=_Space)
    cpdef bint delete(self, key) except -1

    cpdef list list(self, str kind, str namespace=*)

    @cython.locals(found=list, spaces=dict, space=_Space, wanted=list, name=str, entry=_Entry)
    cpdef list list_by_label(self, str kind, str namespace, selector)

    @cython.locals(ring=_Entry)
    cpdef clear(self)
