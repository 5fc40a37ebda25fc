"""`benchmark-model`: a model in all its files beside one another: size, memory, speed, and what it hears."""
