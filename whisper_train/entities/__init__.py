"""`task: entities`: cities found in French travel orders, from text and from speech."""
