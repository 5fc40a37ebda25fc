"""The stock recipe of fine-tuning Whisper beside this program's, on the same clips; see docs/benchmarks.md."""
