"""What is on a bus, in the forms that other tools read: AsyncAPI, OpenAPI, pages."""
