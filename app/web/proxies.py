"""Whose `X-Forwarded-*` headers are believed, and who the caller then is."""

import ipaddress

from app.web.settings import Network


def client_address(peer: str, forwarded: list[str], proxies: tuple[Network, ...]) -> tuple[str, bool]:
    """The nearest address that is not a trusted proxy's, read from the right, and whether the peer is a trusted one.

    IPv6 callers are told apart by their /64, which is what one subscriber has.
    """
    if not proxies:
        return _key(peer), False
    trusted = within(peer, proxies)
    current = peer
    for hop in reversed(forwarded):
        if not within(current, proxies):
            break
        current = hop
    return _key(current), trusted


def within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether the address is in one of the networks; what is no address is in none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks if network.version == parsed.version)


def _key(address: str) -> str:
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address}/64", strict=False).network_address)
    except ValueError:
        return "unknown"
