"""The built-in runtime's images: registries, archives, one content-addressed store, overlay file systems."""
