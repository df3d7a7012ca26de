"""Strict fake providers: servers on loopback that refuse what the real ones refuse."""
