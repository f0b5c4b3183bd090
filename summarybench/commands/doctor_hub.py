"""The model checks of `summarybench doctor`.

They cover disks, the hub, its token and licences, and the embedded model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import MODELS, ModelSpec
from summarybench.commands.doctor_finding import Finding, State, attempt, fail, ok, skip
from summarybench.core.deadline import within
from summarybench.core.numbers import decimal, trimmed
from summarybench.core.outcomes import UnavailableError, first_line
from summarybench.engines.embedded import REMEDY
from summarybench.machine.device import GIB

HUB_MODEL_GIB = 14.5  # the 16-bit safetensors of a 7B model (12.6 and 13.5 GiB), with a margin
RESULTS_GIB = 1.0
HUB_SECONDS = 5.0  # per request; the lookup of a host name has no timeout of its own
WITHOUT_HUB = "or use no hub: --model-path NAME=FOLDER, --weights synthetic, or -m embedded"


def examine_hub(*, is_needed: bool = True) -> Iterator[Finding]:
    """Check everything from disk space for the hub's models to their licences.

    With `is_needed` False, when only the embedded model can run, failures are reported as skipped.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub.utils import logging as hub_logging
    except ImportError as error:
        yield fail("hub", first_line(error), "run 'make setup': huggingface_hub is missing")
        return
    hub_logging.set_verbosity_error()

    def find_file(spec: ModelSpec, name: str) -> object:
        return hub.try_to_load_from_cache(spec.repository, name, revision=spec.revision)

    models = [spec for spec in MODELS.values() if not spec.is_embedded]
    missing = [spec for spec in models if not is_cached(spec, find_file)]
    room = attempt("hub cache", lambda: check_cache_disk(Path(hub.constants.HF_HUB_CACHE), missing, free_bytes))
    for finding in (room, *_examine_access(hub, models, missing)):
        as_it_is = is_needed or finding.state is State.OK
        yield finding if as_it_is else skip(finding.name, f"{finding.seen}; only the hub models need it")


def _examine_access(hub: Any, models: Sequence[ModelSpec], missing: Sequence[ModelSpec]) -> Iterator[Finding]:
    def ask(url: str) -> int:
        return int(hub.get_session().head(url, timeout=HUB_SECONDS).status_code)  # without the token

    offline = bool(hub.constants.HF_HUB_OFFLINE)
    reached = attempt("hub", lambda: check_hub(hub.constants.ENDPOINT, offline=offline, missing=missing, ask=ask))
    yield reached
    token = attempt("token", lambda: check_token(hub.get_token))
    yield token
    obstacle = "" if token.state is State.OK else "no token"
    if reached.state is not State.OK:
        obstacle = "the hub cannot be asked"
    check = partial(check_licence, obstacle=obstacle, auth_check=hub.auth_check, errors=hub.errors)
    for spec in models:
        yield attempt(f"licence, {spec.marker}", partial(check, spec))


def is_cached(spec: ModelSpec, find_file: Callable[[ModelSpec, str], Any]) -> bool:
    """Whether the hub's cache contains the whole model.

    That is the configuration and every shard in the index of the weights.

    `find_file` returns a path, or something that is not a string if the file is not cached. An unreadable cache counts as
    empty.
    """
    try:
        index = json.loads(Path(find_file(spec, "model.safetensors.index.json")).read_text(encoding="utf-8"))
        needed = {"config.json", *index["weight_map"].values()}
        return all(isinstance(find_file(spec, name), str) for name in needed)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def check_cache_disk(folder: Path, missing: Sequence[ModelSpec], free_bytes: Callable[[Path], int]) -> Finding:
    """Check the disk space for models that are not yet downloaded."""
    if not missing:
        return ok("hub cache", f"the hub's models are in {folder}")
    what = f"the weights of {' and '.join(spec.name for spec in missing)}"
    remedy = f"free space there, or set HF_HOME to a folder on a larger disk, {WITHOUT_HUB}"
    return _check_disk("hub cache", folder, HUB_MODEL_GIB * len(missing), what, free_bytes, remedy)


def check_results_disk(folder: Path, free_bytes: Callable[[Path], int]) -> Finding:
    remedy = "free space there, or set --results-dir to a folder on a larger disk"
    return _check_disk("results", folder, RESULTS_GIB, "runs", free_bytes, remedy)


def _check_disk(
    name: str, folder: Path, needed_gib: float, what: str, free_bytes: Callable[[Path], int], remedy: str
) -> Finding:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free_gib = free_bytes(existing) / GIB
    seen = f"{decimal(free_gib, 1)} GiB free for {folder}, {trimmed(needed_gib)} GiB needed for {what}"
    return ok(name, seen) if free_gib >= needed_gib else fail(name, seen, remedy)


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def check_hub(endpoint: str, *, offline: bool, missing: Sequence[ModelSpec], ask: Callable[[str], int]) -> Finding:
    """Make one request.

    `ask` returns the HTTP status, and raises if there is no response.
    """
    if offline and missing:
        seen = f"HF_HUB_OFFLINE is set, but {' and '.join(spec.name for spec in missing)} not in the cache"
        return fail("hub", seen, f"unset HF_HUB_OFFLINE, {WITHOUT_HUB}")
    if offline:
        return skip("hub", "HF_HUB_OFFLINE is set, and the hub's models are in the cache")
    try:
        status = within(HUB_SECONDS, lambda: ask(endpoint))
        if status < 400:
            return ok("hub", f"{endpoint} answers")
        seen = f"{endpoint} answers with HTTP status {status}"
    except Exception as error:
        seen = f"{endpoint} cannot be reached: {first_line(error)}"
    return fail("hub", seen, f"check the network and HTTPS_PROXY, {WITHOUT_HUB}")


# From here on requests use the token. Messages of exceptions are not shown, because some quote the request's headers.


def check_token(get_token: Callable[[], str | None]) -> Finding:
    remedy = "run 'hf auth login', or set HF_TOKEN"
    try:
        found = within(HUB_SECONDS, get_token) is not None  # a token from a browser login may have to be renewed first
    except Exception as error:
        return fail("token", f"cannot be read ({type(error).__name__})", remedy)
    return ok("token", "set") if found else fail("token", "none", remedy)


def check_licence(spec: ModelSpec, *, obstacle: str, auth_check: Callable[[str], None], errors: Any) -> Finding:
    """Check whether the token may download the model.

    `obstacle`, if any, says why the hub cannot be asked.
    """
    name = f"licence, {spec.marker}"
    if obstacle:
        return skip(name, obstacle)
    try:
        within(HUB_SECONDS, lambda: auth_check(spec.repository))
        return ok(name, f"{spec.repository} may be downloaded")
    except errors.GatedRepoError:  # a subclass of RepositoryNotFoundError
        seen, remedy = "not accepted", f"accept it at {spec.licence_url}, with the token's account"
    except errors.RepositoryNotFoundError:
        seen = "not found with this token"
        remedy = f"log in again with 'hf auth login', and check that {spec.licence_url} exists"
    except TimeoutError:
        seen, remedy = f"no answer within {trimmed(HUB_SECONDS)} s", f"try again, {WITHOUT_HUB}"
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        seen = type(error).__name__ + (f" (HTTP status {status})" if status else "")
        remedy = "check whether the token is still valid: hf auth whoami"
    return fail(name, f"{spec.repository}: {seen}", remedy)


def check_embedded(converted: Path, find_wheel: Callable[[], Path]) -> Finding:
    """Check the converted model, or else the wheel.

    `find_wheel` returns the model's file in the wheel, and raises UnavailableError if it is missing or damaged.
    """
    name = "embedded model"
    if converted.is_dir():
        if any(converted.glob("*.safetensors")) and (converted / "config.json").is_file():
            return ok(name, f"converted: {converted}")
        return fail(name, f"{converted} is incomplete", f"rm -r {converted}: the next run converts it again")
    try:
        return ok(name, f"{find_wheel().name} is undamaged; the first run converts it")
    except UnavailableError as error:
        seen, _, remedy = str(error).partition("; ")
        return fail(name, seen, remedy or REMEDY)
