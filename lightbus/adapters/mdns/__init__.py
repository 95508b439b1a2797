"""Discovery on a network: multicast DNS (RFC 6762) by zeroconf."""
