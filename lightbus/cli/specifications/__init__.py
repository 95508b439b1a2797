"""The APIs on a bus in other formats: AsyncAPI, OpenAPI, HTML pages."""
