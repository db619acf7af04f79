"""Settings of the processes that run services: the API and the record workers."""

from collections.abc import Mapping

import msgspec

from app.delivery.service import MintSettings, read_minting
from app.fulfilment.settings import FulfilmentSettings, read_fulfilment
from app.kernel.db import DatabaseSettings, read_database
from app.payments.gateway import StripeSettings, read_stripe
from app.reconcile.settings import ReconcileSettings, read_reconcile
from app.uploads.settings import UploadLimits, read_uploads
from app.web.settings import WebSettings, read_web
from app.webhooks.settings import WebhookSettings, read_webhooks
from base.objects import Buckets, ObjectStoreSettings, SiteSettings, read_buckets, read_site, read_store
from base.regions import Policy, read_policy, read_regions
from base.settings import Keys, Reader, Secret


class AppSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a process with the database needs; `role` names the object store key it holds in every region."""

    region: str
    others: dict[str, SiteSettings]
    policy: Policy
    database: DatabaseSettings
    store: ObjectStoreSettings
    buckets: Buckets
    keks: Keys
    result_key: Secret[bytes]
    cancel_window_s: int
    stripe: StripeSettings
    fulfilment: FulfilmentSettings
    reconcile: ReconcileSettings
    uploads: UploadLimits


def read_app(read: Reader, role: str) -> AppSettings:
    """The common settings; the caller adds its own and calls `read.finish()`."""
    here, every = read_regions(read)
    return AppSettings(
        region=here,
        others={name: read_site(read.of_region(name), role) for name in every if name != here},
        policy=read_policy(read, every),
        database=read_database(read),
        store=read_store(read, role),
        buckets=read_buckets(read),
        keks=read.keys("TIRAGE_KEK"),
        result_key=read.key("TIRAGE_RESULT_KEY"),
        cancel_window_s=read.number("TIRAGE_ORDER_CANCEL_WINDOW_S", 900, 0, 86_400),
        stripe=read_stripe(read),
        fulfilment=read_fulfilment(read, role),
        reconcile=read_reconcile(read),
        uploads=read_uploads(read),
    )


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an API process needs."""

    app: AppSettings
    web: WebSettings
    minting: MintSettings
    webhooks: WebhookSettings


def load_api(env: Mapping[str, str]) -> ApiSettings:
    """Settings of an API process; raises `SettingsError` with all faults."""
    read = Reader(env)
    settings = ApiSettings(
        app=read_app(read, "API"), web=read_web(read), minting=read_minting(read), webhooks=read_webhooks(read)
    )
    read.finish()
    return settings


def load(env: Mapping[str, str], role: str) -> AppSettings:
    """Settings of a record process; raises `SettingsError` with all faults."""
    read = Reader(env)
    settings = read_app(read, role)
    read.finish()
    return settings
