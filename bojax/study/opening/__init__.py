"""Opens studies: a new one, a stored one, or one whose space has changed."""
