"""What a node uses, measured from outside: memory, flash, wire, sizes of builds. `pinnace footprint` loads it, the agent never does.

Files of /proc and /sys are read below a given root; what is decided on them is pure."""
