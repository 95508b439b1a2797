from django.urls import path

from . import views

urlpatterns = [
    path("stock/<product>", views.stock),
    path("orders", views.orders),
    path("orders/<product>/<customer>", views.order),
]
