"""The lab: a Xen pool that speaks XAPI, for development, demonstration and tests."""
