"""The bus over HTTP: what `lightbus gateway` serves. A client of the bus, for browsers and other languages."""
