"""Helpers under their module paths in Lightbus 1.x."""
