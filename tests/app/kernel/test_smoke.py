from app.kernel.db import Database


async def test_db(db: Database) -> None:
    async with db.transaction() as tx:
        assert await tx.value("SELECT 1") == 1
