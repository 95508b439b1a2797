"""An outbox in a database that the program uses by SQLAlchemy: `lightbus.contrib.sqlalchemy.outbox`."""
