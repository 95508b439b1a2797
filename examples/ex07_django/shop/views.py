from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from lightbus.contrib.django import fire_on_commit

from .bus import bus
from .models import Order, Product


def stock(request: HttpRequest, product: str) -> JsonResponse:
    return JsonResponse({"stock": bus.store.stock(product=product)})


@csrf_exempt
@transaction.atomic
def order(request: HttpRequest, product: str, customer: str) -> JsonResponse:
    ordered = Order.objects.create(product=Product.objects.get(name=product), customer=customer)
    fire_on_commit(bus.store.order_placed, order=ordered.pk, customer=customer)
    left = Product.objects.filter(name=product, stock__gt=0).update(stock=F("stock") - 1)
    if not left:
        transaction.set_rollback(True)  # neither the order nor its event
        return JsonResponse({"error": f"no {product} left"}, status=409)
    return JsonResponse({"order": ordered.pk}, status=202)


def orders(request: HttpRequest) -> JsonResponse:
    return JsonResponse({each.pk: each.is_shipped for each in Order.objects.all()})
