import os

import django

import lightbus
from lightbus.utilities.django import uses_django_db

bus = lightbus.create()


class AuthApi(lightbus.Api):
    user_registered = lightbus.Event(parameters=("username", "email"))

    class Meta:
        name = "auth"

    @uses_django_db
    def check_password(self, username, password):
        from django.contrib.auth.models import User

        try:
            user = User.objects.get(username=username)
            return user.check_password(password)
        except User.DoesNotExist:
            return False


bus.client.register_api(AuthApi())


@uses_django_db
def handle_new_user(event, username, email):
    from my_app.models import AuditLogEntry

    AuditLogEntry.objects.create(message=f"User {username} created")


@bus.client.on_start()
def on_start(**kwargs):
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    django.setup()

    bus.auth.user_registered.listen(handle_new_user, listener_name="create_audit_entry")
