"""istiod's webhooks, called as the API server calls them: TLS against the caBundle, then a review.

Nothing is created: istiod's webhooks have no side effects.
"""

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple

import msgspec
from cryptography import x509

from meshgate.deadline import bounded, concurrently
from meshgate.semantics.certificates import UNREADABLE, described
from meshgate.semantics.webhooks import SAMPLE_LABELS, Backend, Hook, Webhooks
from meshgate.snapshot.kubernetes import Container, Namespace
from meshgate.snapshot.wire import Admission, Certificate, Handshake, Review

# A way to an endpoint; raises OSError where there is none.
Dial = Callable[[Backend], socket.socket]

SAMPLE = "meshgate-sample"


LONGEST = 60.0  # seconds for everything that is asked at one endpoint
LARGEST = 8 * 1024 * 1024  # bytes of one answer


class Question(NamedTuple):
    """One review to post: the path, the sample (Review.sample), and a pod's own labels."""

    path: str
    sample: str
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class Visit(NamedTuple):
    """An endpoint as a webhook's client sees it: by this name, trusting this bundle."""

    backend: Backend
    server_name: str
    fingerprint: str
    bundle: bytes


def ask(
    webhooks: Webhooks,
    namespaces: Sequence[Namespace],
    dial: Dial,
    opted_in: Sequence[tuple[Namespace, Mapping[str, str]]] = (),
) -> Admission:
    """Shake hands with every endpoint of every webhook, and post reviews of samples to it.

    Args:
        webhooks: Istio's webhooks.
        namespaces: those that enable injection: a pod of each is a sample for each injector that
            selects it, spread over the endpoints.  Validators get their samples at every endpoint.
        dial: connects to an endpoint.
        opted_in: namespaces with the labels of pods that choose a sidecar themselves.

    Returns:
        What the endpoints answered; nothing is created.
    """
    samples: list[tuple[Namespace, Mapping[str, str]]] = [(each, {}) for each in namespaces]
    samples += opted_in
    # what several webhooks have in common is asked once
    plan: dict[Visit, dict[Question, None]] = {}
    for hook in webhooks.all:
        visits = [_visit(hook, backend) for backend in webhooks.backends(hook)]
        if not hook.webhook.client_config.ca_bundle:
            continue  # it does not verify the certificate: the configuration states this
        for visit in visits:
            plan.setdefault(visit, {})
        for visit, question in _questions(hook, visits, samples, hook in webhooks.validators):
            plan[visit][question] = None
    seen = concurrently(lambda row: _bounded(row[0], list(row[1]), dial), plan.items(), workers=8)
    return Admission(
        handshakes=tuple(handshake for handshake, _ in seen),
        reviews=tuple(review for _, reviews in seen for review in reviews),
    )


def injected(hook: Hook, backend: Backend, namespace: str, dial: Dial) -> list[Any]:
    """Return an injector's JSON patch for a sample pod; raise OSError, ValueError.

    Args:
        hook: the webhook of an injector.
        backend: the endpoint to connect to.
        namespace: the namespace of the sample pod.
        dial: connects to an endpoint.

    Returns:
        The JSON patch.
    """
    visit = _visit(hook, backend)
    with _shake(_trusting(visit.bundle), visit, dial) as connection:
        http = HTTPConnection(visit.server_name)
        http.sock = connection
        headers = {"Content-Type": "application/json"}
        http.request("POST", hook.path, body=sample_review(namespace), headers=headers)
        return patch_of(http.getresponse().read(LARGEST))


class Injection(msgspec.Struct, frozen=True):
    """What an injector does with one pod: its patch, or why it refuses it or does not answer."""

    patch: tuple[dict[str, Any], ...] = ()
    refused: str = ""
    error: str = ""


def inject_each(
    hook: Hook, backend: Backend, pods: Sequence[dict[str, Any]], dial: Dial
) -> list[Injection]:
    """Post a review of each pod to an injector's endpoint, over one connection.

    Args:
        hook: the injector.
        backend: the endpoint.
        pods: the objects that the API server would send; each has its namespace.
        dial: connects to an endpoint.

    Returns:
        One result for each pod, in their order; nothing is created.
    """
    visit = _visit(hook, backend)
    try:
        with _shake(_trusting(visit.bundle), visit, dial) as connection:
            http = HTTPConnection(visit.server_name)
            http.sock = connection
            return [_inject(http, hook.path, pod) for pod in pods]
    except (OSError, ValueError) as error:
        return [Injection(error=str(error) or type(error).__name__)] * len(pods)


def _inject(http: HTTPConnection, path: str, pod: dict[str, Any]) -> Injection:
    body = msgspec.json.encode(_review_of(pod))
    try:
        http.request("POST", path, body=body, headers={"Content-Type": "application/json"})
        answer = http.getresponse()
        read = answer.read()
        if answer.status != 200:
            words = read[:200].decode(errors="replace").strip()
            return Injection(error=f"answered {answer.status} {words}".strip())
        response = _ANSWERS.decode(read).response
        if not response.allowed:
            return Injection(refused=response.status.message or "without a reason")
        patch = msgspec.json.decode(response.patch) if response.patch else []
        return Injection(patch=tuple(each for each in patch if isinstance(each, dict)))
    except (OSError, HTTPException, ValueError) as error:
        return Injection(error=str(error) or type(error).__name__)


def _review_of(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the AdmissionReview of the creation of a pod."""
    review = _request(Question("", "pod", pod["metadata"]["namespace"]))
    review["request"]["object"] = pod
    review["request"]["name"] = ""  # the API server generates it later
    return review


def sample_review(namespace: str) -> bytes:
    """Return the question about a sample pod there."""
    return msgspec.json.encode(_request(Question("", "pod", namespace)))


def pod_review(namespace: str, pod: Mapping[str, Any]) -> bytes:
    """Return the question about a pod (`metadata` and `spec`) in a namespace."""
    review = _request(Question("", "pod", namespace))
    review["request"]["object"] |= pod
    return msgspec.json.encode(review)


def patch_of(answer: bytes) -> list[Any]:
    """Return the JSON patch of an injector's answer; raise ValueError if it has none."""
    response = _ANSWERS.decode(answer).response
    if not response.allowed:
        raise ValueError(response.status.message or "it is not allowed")
    patch = msgspec.json.decode(response.patch) if response.patch else []
    return patch if isinstance(patch, list) else []


def _visit(hook: Hook, backend: Backend) -> Visit:
    bundle = hook.webhook.client_config.ca_bundle
    return Visit(backend, hook.server_name, hook.bundle, bundle)


def _questions(
    hook: Hook,
    visits: Sequence[Visit],
    samples: Sequence[tuple[Namespace, Mapping[str, str]]],
    validates: bool,
) -> Iterable[tuple[Visit, Question]]:
    if validates:
        for visit in visits:
            yield from ((visit, Question(hook.path, sample)) for sample in ("valid", "invalid"))
        return
    questions = [
        Question(hook.path, "pod", each.metadata.name, tuple(sorted(labels.items())))
        for each, labels in samples
        if hook.selects(each, labels or SAMPLE_LABELS)
    ]
    # each question once at least, and each endpoint once at least
    for turn in range(max(len(questions), len(visits)) if questions and visits else 0):
        yield visits[turn % len(visits)], questions[turn % len(questions)]


def _bounded(
    visit: Visit, questions: Sequence[Question], dial: Dial
) -> tuple[Handshake, list[Review]]:
    try:
        return bounded(
            lambda: _pay(visit, questions, dial), LONGEST, f"webhook {visit.server_name}"
        )
    except TimeoutError:
        words = f"its answers took longer than {LONGEST:.0f} s in total"
        return Handshake(
            pod=visit.backend.pod,
            server_name=visit.server_name,
            bundle=visit.fingerprint,
            error=words,
        ), []


def _pay(visit: Visit, questions: Sequence[Question], dial: Dial) -> tuple[Handshake, list[Review]]:
    """One visit: the handshake, and over the same connection the questions."""
    seen = Handshake(pod=visit.backend.pod, server_name=visit.server_name, bundle=visit.fingerprint)
    try:
        trusted = _trusting(visit.bundle)
        with _shake(trusted, visit, dial) as connection:
            served = _served(connection)
            reviews = _post(visit, questions, connection)
            return msgspec.structs.replace(seen, served=served), reviews
    except ssl.SSLCertVerificationError as error:
        distrust = error.verify_message or str(error)
    except ValueError as error:
        distrust = f"the caBundle holds no certificate: {error}"
    except OSError as error:
        return msgspec.structs.replace(seen, error=str(error) or type(error).__name__), []
    return msgspec.structs.replace(seen, distrust=distrust, served=_look(visit, dial)), []


def _trusting(bundle: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # what the bundle holds is trusted, root or not: so does the API server
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=bundle.decode("ascii"))
    except ssl.SSLError as error:
        raise ValueError(error.reason or str(error)) from error
    return context


def _shake(context: ssl.SSLContext, visit: Visit, dial: Dial) -> ssl.SSLSocket:
    raw = dial(visit.backend)
    try:
        return context.wrap_socket(raw, server_hostname=visit.server_name)
    except BaseException:
        raw.close()
        raise


def _served(connection: ssl.SSLSocket) -> Certificate | None:
    der = connection.getpeercert(binary_form=True)
    try:
        return described(x509.load_der_x509_certificate(der)) if der else None
    except UNREADABLE:
        return None


def _look(visit: Visit, dial: Dial) -> Certificate | None:
    """Return what is served, where it is not trusted: for the finding's sake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _shake(context, visit, dial) as connection:
            return _served(connection)
    except (OSError, ValueError):
        return None


# --- reviews ------------------------------------------------------------------------------------


class _Status(msgspec.Struct, frozen=True):
    message: str = ""


class _Response(msgspec.Struct, frozen=True):
    allowed: bool = False
    status: _Status = _Status()
    patch: bytes = b""


class _Answer(msgspec.Struct, frozen=True):
    response: _Response


class _Operation(msgspec.Struct, frozen=True):
    op: str
    path: str
    value: Any = None


# made before there are threads, see snapshot/model.py
_ANSWERS = msgspec.json.Decoder(_Answer)
_PATCHES = msgspec.json.Decoder(list[_Operation])


def _post(visit: Visit, questions: Sequence[Question], connection: ssl.SSLSocket) -> list[Review]:
    http = HTTPConnection(visit.server_name)
    http.sock = connection
    return [_review(visit, question, http) for question in questions]


def _review(visit: Visit, question: Question, http: HTTPConnection) -> Review:
    asked = Review(
        pod=visit.backend.pod,
        server_name=visit.server_name,
        bundle=visit.fingerprint,
        path=question.path,
        sample=question.sample,
        namespace=question.namespace,
        labels=dict(question.labels),
    )
    try:
        http.request(
            "POST",
            question.path,
            body=msgspec.json.encode(_request(question)),
            headers={"Content-Type": "application/json"},
        )
        answer = http.getresponse()
        body = answer.read(LARGEST)
        if answer.status != 200:
            words = body[:200].decode(errors="replace").strip()
            return msgspec.structs.replace(asked, error=f"answered {answer.status} {words}".strip())
        response = _ANSWERS.decode(body).response
        return msgspec.structs.replace(
            asked,
            allowed=response.allowed,
            message=response.status.message,
            containers=tuple(_added(response.patch)),
        )
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        return msgspec.structs.replace(asked, error=str(error) or type(error).__name__)


def _added(patch: bytes) -> Iterable[Container]:
    """Return the containers that a JSON patch brings, one by one or as a whole list."""
    for row in _PATCHES.decode(patch) if patch else ():
        if row.path.startswith(("/spec/containers", "/spec/initContainers")):
            for value in row.value if isinstance(row.value, list) else [row.value]:
                if isinstance(value, dict) and "name" in value:
                    yield Container(name=str(value["name"]), image=str(value.get("image", "")))


def _request(question: Question) -> dict[str, Any]:
    """Return the AdmissionReview (v1) that the API server would send for the sample."""
    namespace = question.namespace or "default"
    if question.sample == "pod":
        group, version, kind, resource = "", "v1", "Pod", "pods"
        labels = dict(question.labels) or SAMPLE_LABELS
        spec: dict[str, Any] = {"containers": [{"name": "app", "image": SAMPLE}]}
    else:
        group, version, kind, resource = "networking.istio.io", "v1", "Gateway", "gateways"
        port = {"number": 80, "name": "http", "protocol": "HTTP"}
        # what is wrong with the invalid one: no host
        hosts = ["meshgate.invalid"] if question.sample == "valid" else []
        labels = {}
        spec = {"selector": SAMPLE_LABELS, "servers": [{"port": port, "hosts": hosts}]}
    what = {"group": group, "version": version}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": SAMPLE,
            "kind": {**what, "kind": kind},
            "resource": {**what, "resource": resource},
            "operation": "CREATE",
            "name": SAMPLE,
            "namespace": namespace,
            "userInfo": {},
            "dryRun": True,
            "object": {
                "apiVersion": f"{group}/{version}".lstrip("/"),
                "kind": kind,
                "metadata": {"name": SAMPLE, "namespace": namespace, "labels": labels},
                "spec": spec,
            },
        },
    }
