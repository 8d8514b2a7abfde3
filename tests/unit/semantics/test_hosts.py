"""Addresses as URLs, Host headers and CONNECT contain them."""

import pytest

from meshgate.semantics.hosts import authority, in_url


@pytest.mark.parametrize(("address", "host"), [("10.0.0.1", "10.0.0.1"), ("fd00::1", "[fd00::1]")])
def test_an_ipv6_address_is_in_brackets(address: str, host: str) -> None:
    assert in_url(address) == host
    assert authority(address, 8080) == f"{host}:8080"
