"""A tenant's pages, by what they are about."""
