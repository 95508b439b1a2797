"""The bus over HTTP, served by `lightbus gateway`: a client of the bus for browsers and other languages."""
