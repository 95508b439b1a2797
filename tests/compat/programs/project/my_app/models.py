from django.db import models


class AuditLogEntry(models.Model):
    message = models.CharField(max_length=100)
