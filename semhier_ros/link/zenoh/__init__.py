"""The link over Zenoh sessions. Needs `eclipse-zenoh`."""
