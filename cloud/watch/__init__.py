"""Following the API server: a cache per kind kept by list and watch, and one worker per object that has something to do."""

from pinnace.cloud.watch.cache import Change, ObjectCache, identity, is_newer, version_number
from pinnace.cloud.watch.workers import KeyWorkers

__all__ = ["Change", "KeyWorkers", "ObjectCache", "identity", "is_newer", "version_number"]
