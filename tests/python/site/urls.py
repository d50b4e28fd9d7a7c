"""The admin, and the users by a view that is async and by one that is not."""

from django.contrib import admin
from django.contrib.auth.models import User
from django.http import JsonResponse
from django.urls import path


def users(request):
    return JsonResponse({"users": list(User.objects.order_by("id").values_list("username", flat=True))})


async def async_users(request):
    return JsonResponse({"users": [user.username async for user in User.objects.order_by("id")]})


urlpatterns = [path("admin/", admin.site.urls), path("users", users), path("async-users", async_users)]
