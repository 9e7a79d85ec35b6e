"""Pods by containerd or CRI-O: the runtime interface over CRI v1 on a unix socket. Loaded only when `containerRuntimeEndpoint` is set.

`runtime` is the adapter, `images` its images, `changes` tells which pods something happened to, `streams` are exec, attach and
port-forward, `upgrade` their connection; `translation` and `failures` turn records and errors; `grpc`, `protobuf` and `messages` are the
encodings.
"""
