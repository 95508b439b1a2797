"""Helpers at the module paths that programs written for Lightbus import them from."""
