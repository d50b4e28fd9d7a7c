"""The admin, the notes, and what the probes ask."""

from django.contrib import admin
from django.urls import path

from notes import views

urlpatterns = [
    path("", views.index),
    path("api/notes", views.notes),
    path("healthz", views.alive),
    path("readyz", views.ready),
    path("admin/", admin.site.urls),
]
