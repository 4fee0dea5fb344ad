"""The operators' pages, one module per noun."""
