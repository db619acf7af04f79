from pathlib import Path

import pytest

from edge.node.denied import Denied

ASSET = "ast_01m86bj0xee1ere2xz744049w7"
SHARE = "shr_01m86bj0xee1ere2xz744049w7"


class TestDenied:
    async def test_is_kept_over_restarts(self, tmp_path: Path) -> None:
        denied = Denied(tmp_path / "new" / "denied")
        await denied.add([SHARE, ASSET, SHARE])
        await denied.add([ASSET])
        again = Denied(tmp_path / "new" / "denied")
        assert SHARE in again
        assert ASSET in again
        assert len(again) == 2
        assert (tmp_path / "new" / "denied").read_text().split() == [SHARE, ASSET]

    async def test_a_line_cut_by_a_crash_costs_only_itself(self, tmp_path: Path) -> None:
        file = tmp_path / "denied"
        await Denied(file).add([SHARE])
        with file.open("a") as out:
            out.write(ASSET[:12])
        cut = Denied(file)
        assert len(cut) == 1
        await cut.add([ASSET])
        assert ASSET in Denied(file)

    @pytest.mark.parametrize("id_", ["", "shr_x", "own_01m86bj0xee1ere2xz744049w7", SHARE + "\n", SHARE.upper()])
    async def test_only_ids_of_assets_and_shares(self, tmp_path: Path, id_: str) -> None:
        denied = Denied(tmp_path / "denied")
        with pytest.raises(ValueError, match="not the id"):
            await denied.add([SHARE, id_])
        assert SHARE not in denied

    async def test_a_disk_that_refuses_is_told_and_asked_again(self, tmp_path: Path) -> None:
        file = tmp_path / "denied"
        denied = Denied(file)
        file.mkdir()
        with pytest.raises(OSError, match="directory"):
            await denied.add([SHARE])
        assert SHARE in denied
        file.rmdir()
        await denied.add([SHARE])
        assert SHARE in Denied(file)
