"""The page's server: its routes, and what it refuses. It serves the page's own files, and of videos
only those whose token, or place in the library, a request names."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from aamn.predictor import VideoSegmenter
from aamn.web.answers import ask, describe, describe_clip
from aamn.web.library import Library
from aamn.web.limits import Limits
from aamn.web.pictures import thumbnail
from aamn.web.take_away import python_lines, write_zip
from aamn.web.videos import Example, NotOpen, Videos
from proposals.errors import InputError
from proposals.frames import open_frames

try:
    import uvicorn
    from fastapi import Body, FastAPI, Request
    from fastapi.responses import FileResponse, JSONResponse, Response
    from starlette.background import BackgroundTask
    from starlette.middleware.trustedhost import TrustedHostMiddleware
except ImportError:
    raise InputError("the page's server is not installed: pip install 'aamn[web]'") from None

log = logging.getLogger("aamn")

PAGE = Path(__file__).with_name("page")
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
LONGEST_BODY = 1 << 16  # bytes of a request that is no upload
FOR_EVER = {"Cache-Control": "private, max-age=86400, immutable"}
LOCAL = ("127.0.0.1", "localhost", "::1")
SWEEP = 60  # seconds between two looks for videos that nobody uses


@dataclass(frozen=True)
class PageOptions:
    """What the page shows and where it listens; `bundle` is what its Python lines name."""

    bundle: Path
    examples: tuple[Example, ...] = ()
    library: Path | None = None
    limits: Limits = field(default_factory=Limits)
    host: str = "127.0.0.1"
    port: int = 7860


Sentences = Annotated[list[str], Body(embed=True)]
Number = Annotated[float | None, Body(embed=True)]


def build_app(segmenter: VideoSegmenter, options: PageOptions, folder: Path) -> FastAPI:
    """The routes; what visitors bring lies in `folder`, and goes when the server ends.

    Raises:
        InputError: the library cannot be read.
    """
    library = Library(segmenter, options.library) if options.library else None
    indexes = library.files if library else ()
    videos = Videos(segmenter, folder, options.limits, options.examples, indexes)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(videos))
        yield
        sweeping.cancel()
        videos.stop()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _refuse(app, options)
    _serve_page(app)
    _serve_videos(app, videos)
    _serve_answers(app, videos, options)
    _serve_examples(app, videos, library)
    return app


async def _sweep(videos: Videos) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        videos.close_unused()


def _refuse(app: FastAPI, options: PageOptions) -> None:
    """Long bodies; names under which another site's page could reach a local server; and what is
    said of a mistake."""
    if options.host in LOCAL:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, "[::1]"])

    @app.middleware("http")
    async def check(request: Request, call_next: Any) -> Response:
        if request.url.path != "/api/videos" and not _is_short(request):
            return JSONResponse({"error": "the request is too long"}, 413)
        response: Response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(InputError)
    async def said(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 404 if isinstance(error, NotOpen) else 422)


def _is_short(request: Request) -> bool:
    """Whether a request says how long it is, and is no longer than a few sentences."""
    length = request.headers.get("content-length", "0")
    chunked = "transfer-encoding" in request.headers
    return not chunked and length.isdecimal() and int(length) <= LONGEST_BODY


def _serve_page(app: FastAPI) -> None:
    """The page's own files and no others, read once."""
    for path in PAGE.iterdir():
        if path.suffix not in TYPES:
            continue
        route = "/" if path.name == "index.html" else f"/{path.name}"
        content, kind = path.read_bytes(), TYPES[path.suffix]

        def serve(content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

        app.add_api_route(route, serve, include_in_schema=False, response_model=None)


def _serve_videos(app: FastAPI, videos: Videos) -> None:
    """Opening, watching, closing."""

    def progress(token: str) -> dict[str, Any]:
        video = videos.of(token)
        found = {"token": token, "name": video.name, **video.content.work.progress()}
        if found["state"] == "ready":
            found |= {"suggestions": list(video.suggestions), **describe(video.index)}
        return found

    @app.post("/api/videos")
    async def upload(request: Request, name: str = "video") -> dict[str, Any]:
        videos.limits.check_bytes(int(request.headers.get("content-length") or 0))
        return progress(await videos.upload(name, request.stream()))

    @app.post("/api/examples/{number}")
    def example(number: int) -> dict[str, Any]:
        return progress(videos.example(number))

    @app.get("/api/videos/{token}")
    def state(token: str) -> dict[str, Any]:
        return progress(token)

    @app.delete("/api/videos/{token}")
    def close(token: str) -> dict[str, Any]:
        videos.close(token)
        return {}

    @app.get("/api/videos/{token}/frames/{number}")
    def frame(token: str, number: int) -> Response:
        picture = videos.of(token).pictures[number]
        return Response(picture, media_type="image/jpeg", headers=FOR_EVER)

    @app.get("/api/videos/{token}/clips/{clip}")
    def clip(token: str, clip: int) -> Response:
        video = videos.of(token)
        with video.lock:
            return JSONResponse(describe_clip(video.index, clip), headers=FOR_EVER)


def _serve_answers(app: FastAPI, videos: Videos, options: PageOptions) -> None:
    """Sentences, and what is taken home."""

    @app.post("/api/videos/{token}/answers")
    def answers(token: str, sentences: Sentences) -> Response:
        begin = time.perf_counter()
        videos.limits.check_sentences(sentences)
        video = videos.of(token)
        with video.lock:
            content = ask(video.index, sentences)
        response = JSONResponse(content)
        spent = 1e3 * (time.perf_counter() - begin)
        response.headers["Server-Timing"] = f"answer;dur={spent:.2f}"
        return response

    @app.post("/api/videos/{token}/zip")
    def archive(token: str, sentences: Sentences, threshold: Number = None) -> Response:
        videos.limits.check_sentences(sentences)
        index = videos.segmenter.read_index(videos.of(token).index.file.path)
        with tempfile.NamedTemporaryFile(suffix=".zip", dir=videos.folder, delete=False) as file:
            path = Path(file.name)
        try:
            write_zip(index, sentences, threshold, path)
        except InputError:
            path.unlink()
            raise
        finally:
            index.close()
        return FileResponse(path, filename="masks.zip", background=BackgroundTask(path.unlink))

    @app.post("/api/videos/{token}/python")
    def python(token: str, sentences: Sentences, threshold: Number = None) -> dict[str, Any]:
        video = videos.of(token)
        return {"lines": python_lines(options.bundle, video.name, sentences, threshold)}


def _serve_examples(app: FastAPI, videos: Videos, library: Library | None) -> None:
    """What every visitor may see: examples and the library."""
    pictures: dict[int, bytes] = {}

    @app.get("/api/start")
    def start() -> dict[str, Any]:
        examples = [
            {"name": example.video.video_id, "sentences": list(example.sentences)}
            for example in videos.examples
        ]
        size = len(library) if library else 0
        return {"examples": examples, "library": size, "limits": asdict(videos.limits)}

    @app.get("/api/examples/{number}/picture")
    def picture(number: int) -> Response:
        if not 0 <= number < len(videos.examples):
            raise NotOpen(f"there is no example {number}")
        if number not in pictures:
            with open_frames(videos.examples[number].video.path) as frames:
                pictures[number] = thumbnail(frames.read([0])[0])
        return Response(pictures[number], media_type="image/jpeg", headers=FOR_EVER)

    if library is None:
        return

    @app.get("/api/library")
    def search(sentence: str, top: int = 24) -> dict[str, Any]:
        begin = time.perf_counter()
        videos.limits.check_sentences([sentence])
        hits = library.search(sentence, min(max(1, top), 100))
        spent = round((time.perf_counter() - begin) * 1e3, 2)
        return {"hits": hits, "videos": len(library), "ms": spent}

    @app.get("/api/library/{place}/picture")
    def found(place: int, sentence: str, frame: int) -> Response:
        videos.limits.check_sentences([sentence])
        picture = library.thumbnail(place, sentence, frame)
        return Response(picture, media_type="image/jpeg", headers=FOR_EVER)

    @app.post("/api/library/{place}")
    def open_found(place: int) -> dict[str, Any]:
        return {"token": videos.of_index(library.file(place))}


def serve(segmenter: VideoSegmenter, options: PageOptions) -> None:
    """Serves the page until it is interrupted; nothing of what visitors brought is left then.

    Raises:
        InputError: the library cannot be read, or the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="aamn-web-") as folder:
        app = build_app(segmenter, options, Path(folder))
        with _listener(options.host, options.port) as listener:
            host = f"[{options.host}]" if ":" in options.host else options.host
            print(f"http://{host}:{listener.getsockname()[1]}", flush=True)
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder goes
            log.setLevel(logging.ERROR)  # what visitors type is theirs, and the page says the rest
            server_of(app).run(sockets=[listener])


def server_of(app: FastAPI) -> uvicorn.Server:
    """What answers for the app, on sockets that its `run` is given."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    return uvicorn.Server(config)


def _listener(host: str, port: int) -> socket.socket:
    """Raises:
    InputError: the port is taken, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = " ".join(str(error.strerror or error).split())
        raise InputError(
            f"cannot listen on {host}:{port} ({reason}); choose another --port"
        ) from None
