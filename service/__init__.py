"""The backend of a character creation platform."""

__version__ = "1.0.0"  # of the release; pyproject.toml has it, too
