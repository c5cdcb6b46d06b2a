"""django's runserver: a child binds, not in its main thread; it prints its URL before."""
from server import Server

SERVER = Server(
    port=8000, type="python", ci=True, commands=[["python3", "manage.py", "runserver"]], same_output=False,
    files={
        "manage.py": """import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

settings.configure(DEBUG=True, SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
urlpatterns = [path("", lambda request: HttpResponse("@CONTENT@"))]
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""})
