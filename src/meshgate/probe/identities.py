"""Certificates of other ServiceAccounts, which istiod signs for their tokens.

The API server issues a token for one account at a time, and only with the right to do so.  Tokens
and keys stay in memory.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from meshgate.probe.signing import Credential, Identity, Refused, Replica, obtain
from meshgate.snapshot.base import Base

AUDIENCE = "istio-ca"
SECONDS = 600  # the shortest lifetime that the API server accepts


class Api(Protocol):
    """The call to the API server that a token needs."""

    def create(self, path: str, value: object, *, right: str) -> bytes: ...


class _Issued(Base, frozen=True):
    token: str = ""


class _TokenRequest(Base, frozen=True):
    status: _Issued = _Issued()


_TOKEN_REQUEST = msgspec.json.Decoder(_TokenRequest)


def identity(
    api: Api, account: str, own: Credential, replicas: Iterable[Replica], root: str
) -> Identity:
    """Return a certificate of the mesh for a ServiceAccount.

    Args:
        api: issues the token.
        account: the ServiceAccount, `namespace/name`.
        own: the verifier's credential, which is used for its own account.
        replicas: istiod's replicas, tried in order.
        root: the roots that the replicas' certificates must lead to.

    Returns:
        The certificate chain and its key.

    Raises:
        ReadError: the API server issues no token.
        Refused: no replica signs.
    """
    wanted = f"system:serviceaccount:{account.replace('/', ':')}"
    credential = own if own.identity == wanted else Credential(_token(api, account), wanted)
    signed = obtain(replicas, credential, root)
    namespace, _, name = account.partition("/")
    if not signed.name.endswith(f"/ns/{namespace}/sa/{name}"):
        raise Refused(f"istiod signed another identity: {signed.name}")
    return signed


def _token(api: Api, account: str) -> str:
    namespace, _, name = account.partition("/")
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [AUDIENCE], "expirationSeconds": SECONDS},
    }
    answer = api.create(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
        body,
        right=f"create serviceaccounts/token {account}",
    )
    try:
        token = _TOKEN_REQUEST.decode(answer).status.token
    except ValueError:
        token = ""
    if not token:
        raise Refused("the API server issued no token")
    return token
