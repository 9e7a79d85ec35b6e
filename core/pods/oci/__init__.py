"""The built-in OCI runtime: sandboxes, containers and networks over crun, CNI plugins and one small shim a container."""
