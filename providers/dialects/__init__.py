"""The wire formats, one subject a module. Pure: no I/O, no key, no clock, no randomness.

Each has a class that is a `Dialect` and one that is a `StreamDecoder`; `wire_errors` reads what most servers say when
they fail.
"""
