"""Ready-made tools."""

__all__: list[str] = []
