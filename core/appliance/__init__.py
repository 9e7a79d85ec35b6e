"""The appliance: a board that is flashed and switched on. Here belongs what the image's own programs know: the file on its boot
partition, its two roots, its report to the person. How a node joins and what an edge does belongs elsewhere."""
