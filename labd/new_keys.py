"""The keys of a new lab, made before its first labd: for labds whose directory of keys is read-only."""

import base64
import tempfile
from pathlib import Path

from labd.services.authority import TRUST_NAME, Authority
from labd.services.own_keys import AUTHORITY_KEY
from labd.services.signing import KEY_NAME, Signer
from labd.services.vault import KEY_FILE, Vault


class SecretNotMade(Exception):
    """The cluster refused it; the message says why."""


def make_keys(directory: Path) -> str:
    """Makes what is missing in a directory of keys, and returns the fingerprint of the authority (SHA-256).

    Raises KeyUnusable or AuthorityUnusable for files that are there and are no keys.
    """
    Signer(directory)
    Vault(directory / KEY_FILE)
    return Authority((directory / AUTHORITY_KEY).parent).fingerprint


def files_of(directory: Path) -> dict[str, bytes]:
    """By the names that the Helm chart expects in the Secret."""
    authority = directory / AUTHORITY_KEY
    paths = (directory / KEY_NAME, directory / KEY_FILE, authority, authority.with_name(TRUST_NAME))
    return {path.name: path.read_bytes() for path in paths}


def make_secret(name: str, namespace: str) -> bool:
    """Makes keys and puts them into a Secret of the cluster that this process is a pod of; False: there is one already.

    All that it takes is the right to create secrets: none is read. Raises SecretNotMade.
    """
    from kubernetes import client, config
    from urllib3.exceptions import HTTPError

    with tempfile.TemporaryDirectory() as scratch:
        make_keys(Path(scratch))
        files = files_of(Path(scratch))
    data: dict[str, str | bytes] = {file: base64.b64encode(content).decode() for file, content in files.items()}
    body = client.V1Secret(metadata=client.V1ObjectMeta(name=name), type="Opaque", data=data)
    try:
        config.load_incluster_config()
        client.CoreV1Api().create_namespaced_secret(namespace, body, _request_timeout=30)
    except client.ApiException as error:
        if error.status == 409:
            return False
        raise SecretNotMade(f"the cluster refuses Secret {namespace}/{name}: {error.status} {error.reason}") from error
    except (config.ConfigException, HTTPError) as error:
        raise SecretNotMade(f"the cluster cannot be asked: {error}") from error
    return True
