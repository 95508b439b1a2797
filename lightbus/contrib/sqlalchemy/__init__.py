"""An outbox in a database that the program uses through SQLAlchemy: `lightbus.contrib.sqlalchemy.outbox`."""
