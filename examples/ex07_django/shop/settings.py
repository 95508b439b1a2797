import os

SECRET_KEY = "an example"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SHOP_DB", "shop.sqlite3")}}

INSTALLED_APPS = ["shop", "lightbus.contrib.django", "lightbus.contrib.django.outbox"]
LIGHTBUS_MODULE = "shop.bus"
