"""From a node's `link.zenoh.*` parameters to the options of a Zenoh session."""

from __future__ import annotations

from types import SimpleNamespace

from semhier_ros.link.zenoh.config import ZenohOptions


def zenoh_options(values: SimpleNamespace) -> ZenohOptions:
    """The session that the parameters ask for. Raises ValueError naming the field that is wrong."""
    return ZenohOptions(
        connect=tuple(item for item in values.link_zenoh_connect if item),
        listen=tuple(item for item in values.link_zenoh_listen if item),
        prefix=values.link_zenoh_prefix,
        mode=values.link_zenoh_mode,
        root_ca=values.link_zenoh_root_ca,
        certificate=values.link_zenoh_certificate,
        private_key=values.link_zenoh_private_key,
        user=values.link_zenoh_user,
        password=values.link_zenoh_password,
        dictionary=values.link_zenoh_dictionary,
    )
