"""Renting a machine: Vast.ai, through its official client. Imports neither torch nor anything else that is heavy."""
