"""The composition root of everything that holds the database: each part built once, in order, visibly."""

from functools import partial

from app.assets.care import AssetCare
from app.assets.moderation import Moderator
from app.assets.service import Assets
from app.catalog.service import Catalog
from app.delivery.denials import Denials, EdgeSettings
from app.delivery.service import Minter, MintSettings
from app.drafts.service import Drafts
from app.erasure.retention import Retention
from app.erasure.service import Erasure
from app.fulfilment.sending import Files, Sending
from app.fulfilment.service import Fulfilments
from app.fulfilment.settings import open_prodigi
from app.fulfilment.vendor import Vendor
from app.fulfilment.watching import Watching
from app.kernel.db import Database
from app.kernel.idempotency import Idempotency
from app.kernel.persons import PersonKeys
from app.kernel.spine import Spine
from app.kinds import KINDS
from app.orders.checkout import Checkout
from app.orders.desk import Desk
from app.orders.mailing import Mailing
from app.orders.masters import VENDOR, Masters
from app.orders.printfiles import PrintFiles
from app.orders.service import Orders
from app.payments.gateway import Gateway
from app.payments.service import Payments
from app.pricing.service import Quotes
from app.reactions import REACTIONS
from app.reconcile.service import Reconciler
from app.settings import AppSettings
from app.shares.pictures import Pictures
from app.shares.service import Shares
from app.uploads.check import Checker
from app.uploads.ending import end_erased
from app.uploads.service import Uploads
from app.uploads.sweep import Sweeper
from app.webhooks.domain import STRIPE, Listener
from app.webhooks.service import Inbox
from app.webhooks.stripe import StripeListener
from app.webhooks.vendors import VendorListener
from base.clock import Clock, SystemClock
from base.edges import EdgeClient
from base.mail import Mailer
from base.objects import ObjectStore, Site, Sites


class Services:
    """One process's parts. `start` opens the database, `stop` closes everything."""

    def __init__(
        self,
        settings: AppSettings,
        clock: Clock | None = None,
        minting: MintSettings | None = None,
        mailer: Mailer | None = None,
        moderator: Moderator | None = None,
        edges: EdgeSettings | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.db = Database(settings.database)
        self.store = ObjectStore(settings.store)
        self.sites = Sites(settings.region, Site(self.store, settings.buckets), settings.others)
        self.spine = Spine(settings.region, KINDS, REACTIONS)
        self.persons = PersonKeys(settings.keks)
        self.idempotency = Idempotency(self.db, self.persons)
        minter = None if minting is None else Minter(minting, settings.region, self.clock)
        self.assets = Assets(self.db, self.spine, partial(end_erased, self.spine), minter)
        clients = {url: EdgeClient(url, edges.purge_keys, edges.ca) for url in edges.urls} if edges else {}
        self._edges = tuple(clients.values())
        self.denials = Denials(self.db, self.spine, clients)
        self.shares = Shares(self.db, self.spine, self.assets, self.denials, minter)
        self.pictures = Pictures(self.db, self.spine, self.assets, self.denials, minter)
        self.catalog = Catalog(self.db)
        self.care = AssetCare(self.db, self.spine, self.sites, self.assets, self.clock, moderator)
        self.uploads = Uploads(
            *(self.db, self.spine, self.persons, self.sites, self.assets, self.clock, settings.policy, settings.uploads)
        )
        self.sweeper = Sweeper(self.db, self.spine, self.sites, self.assets, self.uploads, self.clock)
        self.checker = Checker(self.db, self.assets)
        self.retention = Retention(self.db, self.clock)
        self._sell(settings, mailer)
        self.reconciler = self._reconciler(settings)
        self.erasure = Erasure(
            self.db,
            self.spine,
            self.persons,
            self.assets,
            self.uploads,
            self.drafts,
            self.quotes,
            self.shares,
            self.checkout,
            self.print_files,
        )

    def _sell(self, settings: AppSettings, mailer: Mailer | None) -> None:
        """The parts of the order line, from the price to the parcel."""
        self.gateway = Gateway(settings.stripe, self.clock)
        self.payments = Payments(self.db, self.spine, self.gateway, self.clock)
        self.drafts = Drafts(self.db, self.spine, self.persons, self.assets, self.catalog)
        self.quotes = Quotes(self.db, self.spine, self.catalog, self.drafts, self.clock)
        self.orders = Orders(self.db, self.clock)
        self.mailing = Mailing(self.db, self.persons, mailer)
        vendors: dict[str, Vendor] = {"prodigi": open_prodigi(settings.fulfilment)}
        self.vendors, tokens = vendors, settings.fulfilment.callback_tokens
        self.fulfilments = Fulfilments(self.spine, self.persons, self.clock, vendors, tokens)
        files = Files(self.sites, settings.fulfilment.link_s)
        recipient = self.mailing.recipient_of
        self.sending = Sending(
            self.db,
            self.fulfilments,
            vendors,
            files,
            self.catalog,
            recipient,
            self.clock,
            self.care.is_flagged,
            self.payments.is_disputed,
        )
        self.watching = Watching(self.db, self.fulfilments, vendors, self.clock, settings.fulfilment)
        listeners: dict[str, Listener] = {STRIPE: StripeListener(self.payments)}
        listeners |= {f"vendor/{name}": VendorListener(name, self.fulfilments) for name in vendors}
        self.inbox = Inbox(self.db, self.persons, settings.keks, self.clock, listeners)
        near_vendor = settings.policy.of_vendor(VENDOR, settings.region)
        self.masters = Masters(self.fulfilments, self.catalog, self.assets, near_vendor)
        self.checkout = self._checkout(settings.cancel_window_s)
        self.print_files = PrintFiles(self.db, self.sites, self.clock)
        self.desk = Desk(self.checkout, self.payments, self.fulfilments)

    def _checkout(self, window_s: int) -> Checkout:
        """Above everything that an order passes."""
        return Checkout(
            self.db,
            self.spine,
            self.mailing,
            self.masters,
            self.drafts,
            self.quotes,
            self.payments,
            self.fulfilments,
            self.persons,
            self.clock,
            window_s,
        )

    def _reconciler(self, settings: AppSettings) -> Reconciler:
        """Above everything that is sold."""
        return Reconciler(
            self.db,
            self.spine,
            self.clock,
            self.gateway,
            self.vendors,
            self.payments,
            self.fulfilments,
            self.orders,
            self.checkout,
            settings.reconcile,
        )

    async def start(self) -> None:
        """Open the database pool; raises `ServiceUnavailable`."""
        await self.db.start()

    async def stop(self) -> None:
        """Close the pool, the store's threads and the connections to Stripe and vendors."""
        await self.gateway.close()
        for vendor in self.vendors.values():
            await vendor.close()
        await self.db.stop()
        self.sites.close()
        for edge in self._edges:
            await edge.close()
