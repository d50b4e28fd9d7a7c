"""Notes in the admin."""

from django.contrib import admin

from notes.models import Note

admin.site.site_header = "The board"


@admin.register(Note)
class NoteAdmin(admin.ModelAdmin):
    list_display = ["title", "pinned", "created"]
    list_filter = ["pinned"]
    search_fields = ["title", "text"]
