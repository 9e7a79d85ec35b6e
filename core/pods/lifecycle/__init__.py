"""A pod's life on this node: one worker a pod, what it does and remembers, and what is told of it.

`roster.py` knows which pods are to be here, `worker.py` is one of them; `looking.py` observes, `core/pods/rules` decide, `acting.py`,
`starting.py`, `pulls.py` and `stopping.py` act. `records.py` keeps statuses, `reports.py` and `mirrors.py` talk with the cloud,
`tidying.py` removes what is over. Rules belong to `core/pods/rules`, what containers consist of to `core/pods/material`.
"""
