"""Signed paths, and the vector file that every verifier in another language runs.

`python tests/imagecore/test_signing.py` writes the vectors anew.
"""

import json
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from base import keys
from imagecore import recipe as recipes
from imagecore.signing import DAY_S, HOUR_S, Durable, Ephemeral, Lifetime, NoKeys, Ring, Share, derive, expiry

VECTORS = Path(__file__).parents[2] / "edge" / "functions" / "vectors.json"
ASSET = "ast_01m86bj0xee1ere2xz744049w7"
SHARE = "shr_01m86bj0xee1ere2xz744049w7"
DENIED = "shr_01m86bj0xee1ere2xz74404000"
ERASED = "ast_01m86bj0xee1ere2xz74404001"
WITHDRAWN = "ast_01m86bj0xee1ere2xz74404002"
DENIALS = (DENIED, ERASED, keys.picture(WITHDRAWN))
RECIPE = recipes.text(recipes.rung(400, "lv8187a"))
OLD, NEW = ("u1", bytes(range(32))), ("u2", bytes(range(32, 64)))
NOW = 1_795_500_000
RING = Ring.of_masters([NEW, OLD], "home")


def mutations(path: str, random_: random.Random, count: int) -> list[str]:
    """Other spellings and paths: absolute form, percent-encoding, case, dots, slashes, queries, slack, single bytes."""
    made = [
        "http://edge.example" + path,
        "https://edge.example:443" + path,
        path + "?",
        path + "?a=1",
        path + "#x",
        path + "/",
        path + ".",
        path + "%00",
        "/" + path,
        path.replace("/", "//", 1),
        path.replace("/", "/./", 1),
        path.replace("/", "/x/../", 1),
        path.upper(),
        path.replace(".jpg", ".JPG"),
        path.replace(".jpg", ".webp"),
        path.replace(".jpg", ""),
        path.replace("_", "%5f"),
        path.replace("/", "%2F"),
        path.replace("a", "ａ", 1),
        path[:-5],
        path.replace("/u2/", "/u9/"),
        path.replace("400x400", "400x401"),
        path.replace("420", "444"),
    ]
    others = dict.fromkeys(m for m in made if m != path)
    while len(others) < count:
        at, how = random_.randrange(len(path)), random_.randrange(4)
        before, here, after = path[:at], path[at], path[at + 1 :]
        one = random_.choice("abcdefxyz0123456789._-~/%?#ABC \n")
        escaped = f"%{ord(here):02x}"
        changed = (before + escaped + after, before + one + after, before + after, before + one + here + after)
        if changed[how] != path:
            others[changed[how]] = None
    return list(others)


def denied(wanted: Ephemeral | Share | Durable) -> str:
    """The verdict on a path of an asset that is erased, or whose public picture is withdrawn."""
    if isinstance(wanted, Ephemeral) and wanted.expires <= NOW:
        return "expired"
    if isinstance(wanted, Share) and wanted.share == DENIED:
        return "revoked"
    if wanted.asset == ERASED:
        return "erased"
    return "withdrawn" if isinstance(wanted, Durable) else "good"


def vectors() -> dict[str, object]:
    """Good, expired and refused paths with the keys of one region, from a fixed seed."""
    random_ = random.Random(20261124)
    cases: list[dict[str, object]] = []
    old = Ring.of_masters([OLD], "home")
    for ring in (RING, old):
        for side in (200, 400, 800, 1600):
            for format_ in ("jpg", "webp", "avif"):
                recipe = recipes.text(recipes.rung(side, "lv8187a", format_))  # type: ignore[arg-type]
                for wanted in (
                    Ephemeral(asset=ASSET, recipe=recipe, expires=NOW + side),
                    Ephemeral(asset=ASSET, recipe=recipe, expires=NOW - side),
                    Ephemeral(asset=ASSET, recipe=recipe, expires=NOW),
                    Share(asset=ASSET, recipe=recipe, share=SHARE),
                    Share(asset=ASSET, recipe=recipe, share=DENIED),
                    Durable(asset=ASSET, recipe=recipe),
                ):
                    expired = isinstance(wanted, Ephemeral) and wanted.expires <= NOW
                    revoked = isinstance(wanted, Share) and wanted.share == DENIED
                    told = "expired" if expired else "revoked" if revoked else "good"
                    cases.append({"path": ring.sign(wanted), "verdict": told})
    good = [str(case["path"]) for case in cases if case["verdict"] == "good"]
    for path in random_.sample(good, 12):
        for changed in mutations(path, random_, 40):
            cases.append({"path": changed, "verdict": "refused"})
    for asset in (ERASED, WITHDRAWN):
        for wanted in (
            Ephemeral(asset=asset, recipe=RECIPE, expires=NOW + 1000),
            Ephemeral(asset=asset, recipe=RECIPE, expires=NOW),
            Share(asset=asset, recipe=RECIPE, share=SHARE),
            Share(asset=asset, recipe=RECIPE, share=DENIED),
            Durable(asset=asset, recipe=RECIPE),
        ):
            cases.append({"path": RING.sign(wanted), "verdict": denied(wanted)})
    elsewhere, unknown = Ring.of_masters([NEW], "us"), Ring.of_masters([("u3", OLD[1])], "home")
    crossed = Ring({Lifetime.DURABLE: [("u2", derive(NEW[1], Lifetime.EPHEMERAL, "home"))]})
    for ring in (elsewhere, unknown, crossed):
        cases.append({"path": ring.sign(Durable(asset=ASSET, recipe=RECIPE)), "verdict": "refused"})
    derived = {
        f"{life.value}.{kid}": derive(master, life, "home").hex() for life in Lifetime for kid, master in (NEW, OLD)
    }
    return {"now": NOW, "denied": list(DENIALS), "keys": derived, "cases": cases}


def verdict(path: str, now: int, ring: Ring = RING) -> str:
    found = ring.verify(path.encode(), now)
    if found is None:
        return "refused"
    if found.expired:
        return "expired"
    if found.share == DENIED:
        return "revoked"
    if found.lifetime is Lifetime.DURABLE and found.asset == WITHDRAWN:
        return "withdrawn"
    return "erased" if found.asset == ERASED else "good"


class TestVectors:
    def test_file_is_what_the_generator_makes(self) -> None:
        assert json.loads(VECTORS.read_text()) == json.loads(json.dumps(vectors()))

    def test_every_case_has_its_verdict(self) -> None:
        """The file alone is enough: its keys are all that a verifier in another language gets."""
        read = json.loads(VECTORS.read_text())
        read_keys: dict[Lifetime, list[tuple[str, bytes]]] = {}
        for name, key in read["keys"].items():
            life, _, kid = name.partition(".")
            read_keys.setdefault(Lifetime(life), []).append((kid, bytes.fromhex(key)))
        ring = Ring(read_keys)
        assert len(read["cases"]) >= 500
        assert {c["verdict"] for c in read["cases"]} == {
            "good",
            "expired",
            "revoked",
            "withdrawn",
            "erased",
            "refused",
        }
        assert [c for c in read["cases"] if verdict(c["path"], read["now"], ring) != c["verdict"]] == []


class TestSign:
    def test_literal_paths(self) -> None:
        """Pinned: a change here would make every signed path in the world worthless."""
        ring = Ring.of_masters([OLD], "home")
        assert [
            ring.sign(Ephemeral(asset=ASSET, recipe=RECIPE, expires=NOW)).rsplit("/", 1)[1],
            ring.sign(Share(asset=ASSET, recipe=RECIPE, share=SHARE)).rsplit("/", 1)[1],
            ring.sign(Durable(asset=ASSET, recipe=RECIPE)).rsplit("/", 1)[1],
        ] == LITERALS

    def test_first_key_signs_and_every_key_verifies(self) -> None:
        path = Ring.of_masters([OLD], "home").sign(Durable(asset=ASSET, recipe=RECIPE))
        assert "/u1/" in path
        assert "/u2/" in RING.sign(Durable(asset=ASSET, recipe=RECIPE))
        assert verdict(path, NOW) == "good"

    def test_retired_key_is_refused(self) -> None:
        path = Ring.of_masters([OLD], "home").sign(Durable(asset=ASSET, recipe=RECIPE))
        assert Ring.of_masters([NEW], "home").verify(path.encode(), NOW) is None

    def test_an_edge_with_one_lifetime_cannot_mint_for_another(self) -> None:
        edge = Ring({Lifetime.EPHEMERAL: [("u2", derive(NEW[1], Lifetime.EPHEMERAL, "home"))]})
        with pytest.raises(NoKeys):
            edge.sign(Durable(asset=ASSET, recipe=RECIPE))
        stolen = derive(NEW[1], Lifetime.EPHEMERAL, "home")
        forged = Ring({Lifetime.DURABLE: [("u2", stolen)]}).sign(Durable(asset=ASSET, recipe=RECIPE))
        assert RING.verify(forged.encode(), NOW) is None

    @pytest.mark.parametrize("lifetime", Lifetime)
    def test_keys_are_hkdf(self, lifetime: Lifetime) -> None:
        """Against another implementation of RFC 5869."""
        hkdf = HKDF(SHA256(), 32, salt=None, info=f"tirage-url-1:{lifetime}:home".encode())
        assert derive(OLD[1], lifetime, "home") == hkdf.derive(OLD[1])

    def test_no_keys_no_start(self) -> None:
        for without in (
            {},
            {Lifetime.DURABLE: []},
            {Lifetime.DURABLE: [("u1", b"")]},
            {Lifetime.DURABLE: [("u1", bytes(32))]},
        ):
            with pytest.raises(NoKeys):
                Ring(without)

    @pytest.mark.parametrize(
        "asset", ["", "ast_x", "ast_01M86BJ0XEE1ERE2XZ744049W7", "../../../../etc/passwd", ASSET + "/"]
    )
    def test_field_without_a_place_in_a_path_is_refused(self, asset: str) -> None:
        with pytest.raises(ValueError, match="place"):
            RING.sign(Durable(asset=asset, recipe=RECIPE))


class TestVerify:
    @pytest.mark.parametrize("seed", range(4))
    def test_one_spelling_of_ten_thousand(self, seed: int) -> None:
        path = RING.sign(Ephemeral(asset=ASSET, recipe=RECIPE, expires=NOW + 5))
        changed = mutations(path, random.Random(seed), 2_500)
        assert len(set(changed)) == 2_500
        assert [c for c in changed if verdict(c, NOW) != "refused"] == []
        assert verdict(path, NOW) == "good"

    def test_expiry_is_exclusive(self) -> None:
        path = RING.sign(Ephemeral(asset=ASSET, recipe=RECIPE, expires=NOW)).encode()
        before, at = RING.verify(path, NOW - 1), RING.verify(path, NOW)
        assert before is not None
        assert not before.expired
        assert at is not None
        assert at.expired

    @given(st.binary(max_size=300))
    def test_any_bytes_are_answered(self, raw: bytes) -> None:
        assert RING.verify(raw, NOW) is None


class TestExpiry:
    @given(st.integers(1_700_000_000, 1_900_000_000), st.sampled_from([DAY_S, HOUR_S]))
    def test_lives_between_one_and_two_quanta(self, now: int, quantum: int) -> None:
        assert quantum < expiry(now, quantum, ASSET) - now <= 2 * quantum

    @given(st.integers(1_700_000_000, 1_900_000_000))
    def test_changes_once_a_quantum(self, now: int) -> None:
        assert len({expiry(now + s, HOUR_S, ASSET) for s in range(0, HOUR_S, 60)}) <= 2

    def test_assets_end_at_different_moments(self) -> None:
        ends = {expiry(NOW, DAY_S, f"ast_{n:026d}") for n in range(100)}
        assert len(ends) > 90


LITERALS = [
    "cbe64092aed24d0f5263b3e628f38c33.jpg",
    "a3b6545be80cb4ecf72978519635be77.jpg",
    "c5bfa874dbdda5baf05360421f405cf8.jpg",
]

if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=0) + "\n")
