"""Which network addresses may be connected to: not the machine's own, nor its neighbours'.

A list of URLs comes from outside. Without this check an entry could make a worker read the
metadata service of its cloud or a page of the internal network and put it into a data set.
"""

import ipaddress
import socket
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class ForbiddenAddress(Exception):
    """A host has, or a connection reached, an address that may not be fetched from."""


def parse_networks(words: Sequence[str]) -> tuple[Network, ...]:
    """Return networks such as 10.0.0.0/8. Raises ValueError naming the one that is none."""
    networks: list[Network] = []
    for word in words:
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ValueError(f"{word!r} is no network such as 10.0.0.0/8: {error}") from error
    return tuple(networks)


def resolve(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """Return the addresses of a host, in the resolver's order.

    Raises ForbiddenAddress when any of them is forbidden: a name with one public and one private
    address is made to deceive. Raises socket.gaierror as the resolver does.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check_address(host, address, allowed)
    return addresses


def check_address(host: str, address: str, allowed: Sequence[Network]) -> None:
    """Raise ForbiddenAddress unless `address` is public or in one of the `allowed` networks."""
    for inner in _meant(ipaddress.ip_address(address.partition("%")[0])):
        if any(inner in network for network in allowed):
            continue
        if not inner.is_global or inner.is_multicast:
            raise ForbiddenAddress(f"{host} is {inner}, {_kind(inner)}")


def _meant(address: Address) -> list[Address]:
    """The address and those it stands for in another notation or behind a gateway."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    inner: list[Address] = [address]
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner += address.teredo
    if address in _NAT64:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inner


def _kind(address: Address) -> str:
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address"
    return "a multicast address" if address.is_multicast else "not a public address"
