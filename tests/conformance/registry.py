"""An image registry on loopback, with TLS, read-only: what `images.Store` holds, under any host name.

Only as much of the distribution specification as a client that pulls uses.
"""

import http.server
import pathlib
import re
import ssl
import subprocess
import threading

PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")


def make_certificate(folder, hosts):
    """A certificate for these names that is its own authority: the files of certificate and key."""
    certificate, key = pathlib.Path(folder, "certificate.pem"), pathlib.Path(folder, "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=tests of conformance", "-addext", f"subjectAltName={','.join(f'DNS:{host}' for host in hosts)}",
         "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def handler(store):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def find(self):
            """Digest of what the request names, or nothing."""
            if not (match := PATH.fullmatch(self.path.partition("?")[0])):
                return None
            reference = match["reference"]
            if match["kind"] == "manifests":
                reference = store.tags.get((match["repository"], reference), reference)
            return reference if reference in store.blobs else None

        def answer(self, with_body):
            digest = self.find()
            body, media_type, status = b"{}", "application/json", 200
            if digest:
                body, media_type = store.blobs[digest], store.types[digest]
            elif self.path != "/v2/":
                body, status = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}', 404
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            if digest:
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def do_GET(self):
            self.answer(True)

        def do_HEAD(self):
            self.answer(False)

        def log_message(self, *_):
            pass

    return Handler


class Server(http.server.ThreadingHTTPServer):
    """TLS is negotiated in the thread of each connection: a client that stays silent does not hold the others."""

    daemon_threads = True

    def __init__(self, address, store, certificate, key):
        super().__init__(address, handler(store))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)

    def finish_request(self, request, client_address):
        with self.context.wrap_socket(request, server_side=True) as secured:
            self.RequestHandlerClass(secured, client_address, self)

    def handle_error(self, request, client_address):
        """A client that leaves in the middle is no fault of the server's."""


def serve(address, store, certificate, key):
    """Serves from a thread of its own, and returns the server."""
    server = Server(address, store, certificate, key)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
