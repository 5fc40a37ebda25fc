"""Room on small disks: what of the caches and of finished runs can go."""
