"""From one job file to a proven, deployable Whisper model."""

__version__ = "0.1.0"
