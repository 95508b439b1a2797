from django.urls import path
from my_app.views import audit, log_in, register

urlpatterns = [
    path("register/<name>/<password>", register),
    path("log-in/<name>/<password>", log_in),
    path("audit", audit),
]
