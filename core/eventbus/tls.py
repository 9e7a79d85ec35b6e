"""TLS towards an external broker."""

from __future__ import annotations

import ssl

from pinnace.core.base import bundle
from pinnace.core.eventbus.settings import BusTlsSettings


def client_context(settings: BusTlsSettings) -> ssl.SSLContext:
    """A context that verifies the broker: against the system's authorities, or with `enable` against the CA of the settings, showing
    their certificate. Raises OSError whose text says which files cannot be used."""
    if not settings.enable:
        return _verifying(None)
    try:
        context = _verifying(str(settings.tls_mqtt_ca_file))
    except OSError as error:
        raise OSError(f"eventBusTLS.tlsMqttCAFile: {settings.tls_mqtt_ca_file}: {error.strerror or error}") from error
    certificate, key = settings.tls_mqtt_cert_file, settings.tls_mqtt_private_key_file
    try:
        context.load_cert_chain(certificate, key, password="")  # an encrypted key would ask the terminal
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"eventBusTLS.tlsMqttCertFile and tlsMqttPrivateKeyFile: {certificate}, {key}: {reason}") from error
    return context


def _verifying(authority: str | None) -> ssl.SSLContext:
    """Python 3.13 refuses certificates without RFC 5280's key identifiers; those that people make for their brokers mostly lack them."""
    context = ssl.create_default_context(cafile=authority or bundle.authorities() or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
