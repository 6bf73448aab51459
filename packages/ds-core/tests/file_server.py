"""A web server on this machine that misbehaves as it is told, for the tests of downloads."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files`, contents by path.

    Attributes:
        faults: by path, what happens to the next requests, one after the other: a status, ("cut", n) to hang up
            after n bytes of the body, or ("other range", n) to answer with the part from n on.
        ranges: whether parts of a file can be asked for.
        requests: (path, Range header or None) of each request so far.
    """

    def __init__(self):
        self.files, self.faults, self.requests = {}, {}, []
        self.ranges = True
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner._answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler):
        path = handler.path.lstrip("/")
        asked = handler.headers.get("Range")
        self.requests.append((path, asked))
        queue = self.faults.get(path, [])
        fault = queue.pop(0) if queue else None
        if isinstance(fault, int) or path not in self.files:
            handler.send_error(fault or 404)
            return
        content, start = self.files[path], 0
        if asked is not None and self.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                handler.send_error(416)
                return
            if fault is not None and fault[0] == "other range":
                start = fault[1]
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        body = content[start:]
        handler.wfile.write(body[: fault[1]] if fault is not None and fault[0] == "cut" else body)
