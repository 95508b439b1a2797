"""Integrations of web frameworks and databases: docs/frameworks.md. Each module needs the package of its name."""
