"""Where a registry is asked, and by which proxy."""

from __future__ import annotations

import pytest

from pinnace.core.base.settings.edged import RegistrySettings
from pinnace.core.pods.images.registry import endpoints, proxy_for


@pytest.mark.parametrize(
    ("registry", "settings", "bases"),
    [
        ("docker.io", None, ["https://registry-1.docker.io/v2"]),
        ("registry.example:5000", None, ["https://registry.example:5000/v2"]),
        ("localhost:5000", None, ["http://localhost:5000/v2"]),
        ("127.0.0.1:5000", None, ["http://127.0.0.1:5000/v2"]),
        ("127.0.0.1:5000", RegistrySettings("127.0.0.1:5000"), ["https://127.0.0.1:5000/v2"]),
        ("10.0.0.1", RegistrySettings("10.0.0.1", plain_http=True), ["http://10.0.0.1/v2"]),
        (
            "docker.io",
            RegistrySettings("docker.io", mirrors=("https://m.example", "http://10.0.0.1:5000/cache/", "https://harbor.example/v2/hub")),
            [
                "https://m.example/v2",
                "http://10.0.0.1:5000/cache/v2",
                "https://harbor.example/v2/hub",
                "https://registry-1.docker.io/v2",
            ],
        ),
    ],
)
def test_endpoints(registry: str, settings: RegistrySettings | None, bases: list[str]) -> None:
    found = endpoints(registry, settings)
    assert [each.base for each in found] == bases
    assert [each.is_mirror for each in found] == [True] * (len(bases) - 1) + [False]
    assert found[-1].host == registry


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://r.example/v2", {}, ""),
        ("https://r.example/v2", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://r.example/v2", {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "http://q:1"),
        ("https://r.example/v2", {"HTTP_PROXY": "http://p:1"}, ""),
        ("http://r.example/v2", {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("http://r.example/v2", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://127.0.0.1:5000/v2", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://localhost/v2", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://r.example/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, ""),
        ("https://r.example/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other, r.example"}, ""),
        ("https://r.example/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example"}, ""),
        ("https://r.example/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*.example"}, ""),
        ("https://r.example/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "xample"}, "http://p:1"),
        ("https://r.example:5000/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "r.example:5000"}, ""),
        ("https://r.example:5001/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "r.example:5000"}, "http://p:1"),
        ("https://10.1.2.3/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("https://11.1.2.3/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("https://10.1.2.3:5000/v2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.1.2.3"}, ""),
    ],
)
def test_proxies(url: str, environment: dict[str, str], proxy: str) -> None:
    assert proxy_for(url, environment or {"X": "y"}) == proxy
