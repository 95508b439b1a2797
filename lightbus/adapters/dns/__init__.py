"""Names: what a name server says of where peers are."""
