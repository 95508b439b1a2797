"""The table of events that wait to be fired, the same as for SQLAlchemy programs."""

from __future__ import annotations

from django.db import models

__all__ = ["OutboxEvent"]


class OutboxEvent(models.Model):  # type: ignore[misc]
    """An event of a committed transaction. `error` is the reason why it can never be fired, or empty."""

    number = models.BigAutoField(primary_key=True)
    api = models.CharField(max_length=255)
    event = models.CharField(max_length=255)
    record = models.BinaryField()
    error = models.TextField(default="", blank=True)

    class Meta:
        db_table = "lightbus_outbox"

    def __str__(self) -> str:
        return f"{self.api}.{self.event} {self.number}{f': {self.error}' if self.error else ''}"
