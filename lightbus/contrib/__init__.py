"""Lightbus in web frameworks and beside databases: docs/frameworks.md. Each module needs the package of its name."""
