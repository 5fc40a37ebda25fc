"""Pages people look at: the report of one evaluation, and the leaderboard of all of them."""
