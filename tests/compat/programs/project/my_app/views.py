from bus import bus
from django.contrib.auth.models import User
from django.http import HttpResponse

from my_app.models import AuditLogEntry


def register(request, name, password):
    User.objects.create_user(name, f"{name}@example.com", password)
    bus.auth.user_registered.fire(username=name, email=f"{name}@example.com")
    return HttpResponse("registered")


def log_in(request, name, password):
    return HttpResponse(str(bus.auth.check_password(username=name, password=password)))


def audit(request):
    return HttpResponse(", ".join(entry.message for entry in AuditLogEntry.objects.order_by("id")))
