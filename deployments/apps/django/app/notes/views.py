"""The board as a page and as JSON, and the answers to probes."""

import json
import secrets

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods

from notes.models import Note

# As many as a page shows.
PAGE = 20


@require_GET
def index(request):
    return render(request, "notes/index.html", {"notes": Note.objects.all()[:PAGE]})


def as_json(note):
    return {"id": note.id, "title": note.title, "text": note.text, "pinned": note.pinned, "created": note.created}


def may_write(request):
    given = request.headers.get("Authorization", "")
    return settings.API_TOKEN and secrets.compare_digest(given.encode(), f"Bearer {settings.API_TOKEN}".encode())


# A client that has the token needs no cookie.
@csrf_exempt
@require_http_methods(["GET", "POST"])
def notes(request):
    if request.method == "GET":
        return JsonResponse({"notes": [as_json(note) for note in Note.objects.all()[:PAGE]]})
    if not may_write(request):
        return JsonResponse({"error": "a token is needed to write"}, status=401)
    try:
        given = json.loads(request.body)
        note = Note(title=given["title"], text=given.get("text", ""), pinned=given.get("pinned", False))
        note.full_clean()
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        return JsonResponse({"error": f"this is no note: {error}"}, status=400)
    note.save()
    return JsonResponse(as_json(note), status=201)


@require_GET
def alive(request):
    """The program answers. It does not ask the database, whose failure no restart of this program mends."""
    return HttpResponse("alive\n", content_type="text/plain")


@require_GET
def ready(request):
    """The program can serve: the database answers, and has the table."""
    try:
        Note.objects.exists()
    except DatabaseError as error:
        return HttpResponse(f"no database: {error}\n", content_type="text/plain", status=503)
    return HttpResponse("ready\n", content_type="text/plain")
