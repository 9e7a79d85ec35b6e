"""Hot paths: bytes in, bytes out. No I/O, no event loop, no policy, no logging, nothing of ours imported.

Each hot path `x` is one source in two builds: `x_py.py` is the readable truth (the reference build, and the oracle in tests), `x_c.pxd`
gives it C types and `setup.py` compiles it as `x_c`; `x.py` is the facade everybody imports. Annotations in a source are for readers and
mypy, its first line keeps Cython from using them; what the `.pxd` types `str`, `bytes` or `dict` takes no subclass of it.
`PINNACE_PURE=1` selects the reference build; a missing compiled build is an error, never a silent fall-back. Exceptions stand in
`errors.py`, outside the doubled sources, so that both builds raise the same classes. The records they take and return are a source in
two builds as well: a process has one class of each, from `records.py`.
"""
