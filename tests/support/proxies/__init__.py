"""TCP proxies in front of a server: they lose replies or fall silent, as a network does."""
