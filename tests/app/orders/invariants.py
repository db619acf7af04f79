"""What must hold of every order at every moment: in our database, at Stripe, at the printer, and between the three.

Numbers are those of the project's list of invariants.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from app.fulfilment import domain as fulfilments
from app.fulfilment import facts as merged
from app.fulfilment.vendor import Observation
from app.kernel.states import Machine
from app.orders import domain as orders
from app.orders.fold import Facts, fold
from app.orders.service import OrderView
from app.payments import domain as payments
from base import ids
from tests.app.orders.world import World

ROWS: Final[Mapping[str, str]] = {
    "one order a quote (I1)": "SELECT quote_id FROM orders GROUP BY 1 HAVING count(*) > 1",
    "one living order a draft": """
        SELECT draft_id FROM orders WHERE state NOT IN ('cancelled', 'expired') GROUP BY 1 HAVING count(*) > 1""",
    "one living payment an order (I9)": """
        SELECT order_id FROM payments WHERE state <> 'cancelled' GROUP BY 1 HAVING count(*) > 1""",
    "never more back than taken (I10)": """
        SELECT p.order_id FROM payments p JOIN refunds r ON r.payment_id = p.id AND r.state <> 'failed'
        GROUP BY p.order_id, p.amount, p.state HAVING sum(r.amount) > p.amount OR p.state <> 'captured'""",
    "paid only by Stripe's word about this order (I12)": """
        SELECT o.id FROM orders o WHERE (state = 'paid' OR cancellable_until IS NOT NULL) AND NOT EXISTS (
            SELECT FROM payments p JOIN payment_facts f USING (intent_id)
            WHERE p.order_id = o.id AND p.state = 'captured' AND f.status = 'succeeded' AND f.mismatch IS NULL
              AND (f.received, f.amount, f.currency) = (o.total, o.total, o.currency))""",
    "the total is its parts (I14)": """
        SELECT o.id FROM orders o JOIN order_lines l ON l.order_id = o.id
        GROUP BY o.id HAVING o.total <> sum(l.total) + o.shipping""",
    "one fulfilment an order (I29)": "SELECT order_id FROM fulfilments GROUP BY 1 HAVING count(*) > 1",
    "nothing is sent that is not paid, or changed (I30)": """
        SELECT f.id FROM fulfilments f WHERE (begun_at IS NOT NULL OR vendor_order_id IS NOT NULL) AND (
            NOT EXISTS (SELECT FROM payments p WHERE p.order_id = f.order_id AND p.state = 'captured')
            OR EXISTS (SELECT FROM fulfilment_lines l JOIN orders o ON o.id = f.order_id
                       WHERE l.fulfilment_id = f.id AND (master IS NULL OR l.draft_digest <> o.draft_digest)))""",
    "no refund for what is not made before the printer has answered (I31)": """
        SELECT r.id FROM refunds r WHERE reason = 'not_made' AND NOT EXISTS (
            SELECT FROM events e WHERE e.order_id = r.order_id
              AND e.type IN ('fulfilment.cancelled', 'fulfilment.lines_cancelled'))""",
    "money for a dead order goes back, or has not come (I13)": """
        SELECT o.id FROM orders o JOIN payments p ON p.order_id = o.id AND p.state = 'captured'
        WHERE o.state IN ('cancelled', 'expired')
          AND NOT EXISTS (SELECT FROM refunds r WHERE r.order_id = o.id)
          AND NOT EXISTS (SELECT FROM payment_disputes d WHERE d.payment_id = p.id AND d.status = 'lost')
          AND NOT EXISTS (SELECT FROM jobs j WHERE j.kind = 'order.settle' AND j.state IN ('queued', 'published')
                          AND j.payload->>'order_id' = o.id::text)""",
    "a fact is told once (I17)": """
        SELECT order_id FROM events WHERE type IN ('order.placed', 'order.paid', 'order.cancelled', 'order.expired',
            'payment.secured', 'fulfilment.planned', 'fulfilment.submitted', 'fulfilment.in_production')
          AND order_id IS NOT NULL GROUP BY order_id, type HAVING count(*) > 1""",
    "nothing was seen that cannot be": """
        SELECT rule, subject, detail FROM alerts WHERE rule IN ('payment-contradicted', 'payment-mismatch',
            'payment-without-order', 'refund-mismatch', 'refund-without-request', 'vendor-order-doubled',
            'vendor-complete-without-parcel', 'result-forged', 'paid-after-the-end', 'master-changed')""",
    "a line counts what was told of it": """
        SELECT l.id FROM order_lines l
        LEFT JOIN (
            SELECT part->>'line_id' AS line, sum((part->>'copies')::int) AS copies,
                sum((part->>'copies')::int) FILTER (WHERE reason <> 'not_made') AS by_hand
            FROM refunds, jsonb_array_elements(lines) AS part WHERE state <> 'failed' GROUP BY 1
        ) AS back ON back.line = l.id::text
        WHERE greatest(shipped, cancelled, refunded, in_production, back.copies) > ordered
            OR refunded > cancelled + coalesce(back.by_hand, 0)""",
}
MACHINES: Final[Mapping[str, Machine[Any]]] = {
    "orders": orders.MACHINE,
    "payments": payments.MACHINE,
    "refunds": payments.REFUNDS,
    "fulfilments": fulfilments.MACHINE,
}


async def broken(world: World) -> list[str]:
    """Everything that does not hold now, in words."""
    found: list[str] = []
    async with world.services.db.reading() as db:
        for rule, sql in ROWS.items():
            found += [f"{rule}: {tuple(row)}" for row in await db.fetch(f"SELECT * FROM ({sql}) AS bad LIMIT 3")]
    found += await _journal(world)
    stripe = world.stripe.simulator.counts()["by_order"]
    for order in world.orders:
        view = await world.services.orders.get(world.owner, ids.decode("order", order.id))
        found += _at_stripe(stripe.get(order.id), order.total)
        found += await _shown(world, view)
    found += await _at_the_printer(world)
    found += [f"answers or jobs that crashed: {bad}" for bad in _crashes(world)]
    return found


def _crashes(world: World) -> list[str]:
    return [code for code, times in world.errors.items() if times and (code.startswith(("crash/", "api-500")))]


async def _journal(world: World) -> list[str]:
    """fold(journal) = state (I28)."""
    found = []
    for table, machine in MACHINES.items():
        sql = f"""
            SELECT t.id, t.state, array_agg(e.type ORDER BY e.seq) AS told FROM {table} t
            JOIN events e ON e.aggregate_id = t.id GROUP BY t.id, t.state"""
        async with world.services.db.reading() as db:
            rows = await db.fetch(sql)
        found += [f"{table} {r['id']} is {r['state']} after {r['told']}" for r in rows if not _ends(machine, r)]
    return found


def _ends(machine: Machine[Any], row: Any) -> bool:
    """Whether some path of legal moves that tells exactly these events ends in the row's state."""
    told = [name for name in row["told"] if name in {*machine.initial.values(), *machine.moves.values()}]
    states = {state for state, name in machine.initial.items() if name == told[0]}
    for name in told[1:]:
        moved = {new for (old, new), by in machine.moves.items() if old in states and by == name}
        # Refused because it had left: the next event closes it.
        states = moved | states if name == fulfilments.FulfilmentCancelRefused.type else moved
    return row["state"] in {state.value for state in states}


def _at_stripe(counted: Mapping[str, int] | None, total: int) -> list[str]:
    """One charge at most, of the order's price; never more back than that (I9, I10)."""
    if counted is None:
        return []
    is_good = (
        counted["payment_intents"] <= 1
        and counted["captures"] <= 1
        and counted["captured"] in (0, total)
        and 0 <= counted["refunded"] <= counted["captured"]
    )
    return [] if is_good else [f"at Stripe: {dict(counted)} of {total}"]


async def _shown(world: World, view: OrderView) -> list[str]:
    """What an app sees is the fold of what was told (and is shown so by the API), once nobody has still to count."""
    pending = """
        SELECT count(*) FROM jobs WHERE state IN ('queued', 'published', 'parked')
          AND kind IN ('order.follow', 'order.refunded') AND payload->>'order_id' = $1"""
    async with world.services.db.reading() as db:
        if await db.value(pending, str(view.order.id)):
            return []
        told = await db.fetch("SELECT type, data::text FROM events WHERE order_id = $1", view.order.id)
    lines = _recounted(told, view)
    shown = fold(Facts(order=view.order, lines=lines, holds=view.holds), world.clock.now())
    found = [] if [line.quantities for line in view.lines] == lines else [f"counted {view.lines}, told {lines}"]
    answer = (await world.call("GET", f"/v1/orders/{ids.encode('order', view.order.id)}")).json()
    if answer["state"] != shown.state:
        found.append(f"the app sees {answer['state']}, the facts say {shown.state}")
    return found


def _recounted(told: Sequence[Any], view: OrderView) -> list[orders.Quantities]:
    """Copies by line, from events alone."""
    field_of = {
        "fulfilment.in_production": "in_production",
        "fulfilment.shipped": "shipped",
        "fulfilment.lines_cancelled": "cancelled",
        "fulfilment.cancelled": "cancelled",
    }
    counts = {str(line.id): {"ordered": line.quantities.ordered} for line in view.lines}
    for row in told:
        if (name := field_of.get(row["type"])) is not None:
            data = msgspec.json.decode(row["data"])
            for line, copies in zip(data["lines"], data["quantities"], strict=True):
                counts[line][name] = min(counts[line].get(name, 0) + copies, counts[line]["ordered"])
    done = [line.quantities.refunded for line in view.lines]
    return [
        orders.Quantities(**counts[str(line.id)], refunded=back) for line, back in zip(view.lines, done, strict=True)
    ]


async def _at_the_printer(world: World) -> list[str]:
    """One print job a fulfilment at most, for the copies and the bytes that were bought, paid before (I29, I30)."""
    found, seen = [], set()
    lines = {}
    for order in world.orders:
        view = await world.services.orders.get(world.owner, ids.decode("order", order.id))
        lines |= {ids.encode("order_line", line.id): line.quantities.ordered for line in view.lines}
    for job in world.printer.book.all():
        reference = job.body["merchantReference"]
        if reference in seen:
            found.append(f"the printer has {reference} twice")
        seen.add(reference)
        if any(lines[item.reference] != item.copies for item in job.items):
            found.append(f"the printer makes other copies: {job.items}")
    return found + await _facts(world)


async def _facts(world: World) -> list[str]:
    """Kept observations in any order give the merged facts that everything follows from (I18, I20)."""
    sql = """
        SELECT f.id, f.facts::text AS facts, array_agg(v.seen::text) AS seen FROM fulfilments f
        JOIN vendor_facts v ON v.fulfilment_id = f.id GROUP BY f.id, f.facts"""
    async with world.services.db.reading() as db:
        rows = await db.fetch(sql)
    found = []
    for row in rows:
        seen = [merged.of(msgspec.json.decode(text, type=Observation)) for text in row["seen"]]
        world.random.shuffle(seen)
        again = merged.NOTHING
        for facts in seen:
            again = merged.merge(again, facts)
        if again != msgspec.json.decode(row["facts"], type=merged.Facts):
            found.append(f"the facts of {row['id']} are not what was observed")
    return found
