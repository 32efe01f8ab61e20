"""Whether two collections are the same: their records, their neighbours, and how near is near enough."""
