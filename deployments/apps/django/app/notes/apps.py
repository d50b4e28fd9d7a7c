"""The application, as Django lists it."""

from django.apps import AppConfig


class NotesConfig(AppConfig):
    name = "notes"
