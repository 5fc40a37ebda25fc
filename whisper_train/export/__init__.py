"""A model in the forms that other runtimes read, proven equal to the one that was trained."""
