"""The life of each pod: its worker, its status, its way to the cloud and its end."""
