"""A small read-only OCI registry with two demonstration images, built at its start from `images/`."""
