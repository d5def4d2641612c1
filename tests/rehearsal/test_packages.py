"""The stand-in packages: what is signed by whom, what tampering breaks, what the repository says."""

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.cache import Cache
from pipeline.process import run
from pipeline.progress import Progress
from pipeline.rehearsal.guest_root import APT_PACKAGES
from pipeline.rehearsal.packages import (
    AGENTS,
    RPM_NAMES,
    ArtifactStore,
    PackageFacts,
    Tampering,
    build_rpm,
    ensure_artifacts,
    ensure_key,
    ensure_repository,
    generate_key,
    gpg,
    gpg_home,
    package_facts,
    sign,
    tampered,
    updateinfo,
)
from pipeline.tools import ensure_apt_packages, go_toolchain

VERSION = "1.17.1"


@pytest.fixture(scope="module", autouse=True)
def cache() -> Cache:
    """The user's own cache, on a machine that has gpg and rpmbuild."""
    progress = Progress()
    ensure_apt_packages(APT_PACKAGES, progress)
    return Cache(paths.cache_root(), progress.say)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """A store laid out and signed like the real one, around packages that are just bytes."""
    root = tmp_path_factory.mktemp("store")
    store = ArtifactStore(root=root, version=VERSION, fingerprint="")
    with gpg_home() as home:
        fingerprint = generate_key(home, "Test key")
        for architecture in ("x86_64", "arm64"):
            package = store.package(architecture)
            package.parent.mkdir(parents=True)
            package.write_bytes(architecture.encode() * 1000)
            sign(home, package)
        gpg(home, "--armor", "--output", root / VERSION / "publickey.pem", "--export", fingerprint)
    return ArtifactStore(root=root, version=VERSION, fingerprint=fingerprint)


def verdict(store: ArtifactStore) -> str:
    """What gpg says of the x86_64 package with nothing but the store's own key: the status word that decides."""
    package = store.package("x86_64")
    with gpg_home() as home:
        gpg(home, "--import", store.root / store.version / "publickey.pem")
        done = subprocess.run(
            ["gpg", "--homedir", home, "--batch", "--status-fd", "1", "--verify", package.with_suffix(".sig"), package],
            capture_output=True,
            text=True,
            check=False,
        )
    words = [line.split()[1] for line in done.stdout.splitlines()]
    return next((word for word in words if word in {"GOODSIG", "BADSIG", "EXPKEYSIG"}), "none")


def test_a_store_is_laid_out_as_in_awss_bucket(store: ArtifactStore) -> None:
    assert sorted(str(file.relative_to(store.root)) for file in store.root.rglob("*") if file.is_file()) == [
        "1.17.1/arm64/amazon-guardduty-agent-1.17.1.arm64.rpm",
        "1.17.1/arm64/amazon-guardduty-agent-1.17.1.arm64.sig",
        "1.17.1/publickey.pem",
        "1.17.1/x86_64/amazon-guardduty-agent-1.17.1.x86_64.rpm",
        "1.17.1/x86_64/amazon-guardduty-agent-1.17.1.x86_64.sig",
    ]
    assert verdict(store) == "GOODSIG"


@pytest.mark.parametrize(
    ("how", "says", "same_fingerprint"),
    [
        ("flipped-byte", "BADSIG", True),
        ("truncated", "BADSIG", True),
        ("missing-signature", "none", True),
        ("other-key", "GOODSIG", True),  # only the pinned fingerprint can tell
        ("expired-key", "EXPKEYSIG", False),
        ("wrong-arch", "GOODSIG", True),  # only the package's header can tell
    ],
)
def test_each_way_of_tampering_is_what_its_name_says(
    store: ArtifactStore, tmp_path: Path, how: Tampering, says: str, same_fingerprint: bool
) -> None:
    before = contents(store.root)

    broken = tampered(store, how, tmp_path / "broken")

    assert verdict(broken) == says
    assert (broken.fingerprint == store.fingerprint) is same_fingerprint
    assert contents(broken.root) != before
    assert contents(store.root) == before


def test_another_key_shows_in_the_published_key_only(store: ArtifactStore, tmp_path: Path) -> None:
    broken = tampered(store, "other-key", tmp_path / "broken")

    assert published_fingerprint(broken) != broken.fingerprint
    assert published_fingerprint(store) == store.fingerprint


def test_a_test_key_stays_the_same_and_its_secret_is_its_owners_only(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    key = ensure_key("agent-test-key", cache)

    assert ensure_key("agent-test-key", cache) == key
    assert key.stat().st_mode & 0o777 == 0o700
    assert (key / "secret.asc").stat().st_mode & 0o777 == 0o600
    assert len((key / "fingerprint").read_text()) == 40
    assert "PRIVATE" not in (key / "publickey.pem").read_text()


def test_an_advisory_marks_each_package_as_a_security_update() -> None:
    facts = PackageFacts(name="kernel", version="5.10.262", release="1", architecture="x86_64", file="kernel.rpm")

    assert updateinfo([facts]) == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<updates>\n"
        '  <update from="ovenproof" status="final" type="security" version="1">\n'
        "    <id>STANDIN-0001</id>\n"
        "    <title>kernel update of the rehearsal</title>\n"
        "    <severity>important</severity>\n"
        "    <release>Ovenproof stand-in</release>\n"
        "    <description>Newer than what the base guest has, so that a bake has a security update to make."
        "</description>\n"
        '    <issued date="2025-01-01 00:00:00" />\n'
        "    <references />\n"
        "    <pkglist>\n"
        '      <collection short="standin">\n'
        "        <name>Ovenproof stand-in</name>\n"
        '        <package name="kernel" epoch="0" version="5.10.262" release="1" arch="x86_64">\n'
        "          <filename>kernel.rpm</filename>\n"
        "        </package>\n"
        "      </collection>\n"
        "    </pkglist>\n"
        "  </update>\n"
        "</updates>\n"
    )


def test_the_same_inputs_make_the_same_package(tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        package = build_rpm("standin-base", {"base_version": "2", "suite": "bullseye"}, folder)
        digests.add(hashlib.sha256(package.read_bytes()).hexdigest())
    assert package.name == "standin-base-2-1.noarch.rpm"
    assert len(digests) == 1


@pytest.mark.slow
def test_the_agents_package_names_each_architecture_as_aws_does(cache: Cache) -> None:
    store = ensure_artifacts(VERSION, cache, Progress())

    assert verdict(store) == "GOODSIG"
    assert published_fingerprint(store) == store.fingerprint
    for architecture, header in RPM_NAMES.items():
        facts = package_facts(store.package(architecture))
        assert (facts.name, facts.version, facts.architecture) == ("amazon-guardduty-agent", VERSION, header)
    files = run(["rpm", "-qpl", "--nosignature", store.package("x86_64")]).split()
    assert "/lib/systemd/system/amazon-guardduty-agent.service" in files
    assert "/var/log/amzn-guardduty-agent" in files
    scripts = run(["rpm", "-qp", "--nosignature", "--scripts", store.package("x86_64")])
    assert "systemctl enable" not in scripts


@pytest.mark.slow
def test_the_repository_has_a_newer_kernel_and_ecs_agent_signed_by_its_own_key(cache: Cache, tmp_path: Path) -> None:
    repository = ensure_repository("al2", cache, Progress())

    packages = {package_facts(package).name: package for package in repository.glob("*.rpm")}
    assert sorted(packages) == ["ecs-init", "kernel"]
    assert package_facts(packages["kernel"]).version.startswith("5.10.")
    run(["rpm", "--dbpath", tmp_path, "--import", ensure_key("repository-test-key", cache) / "publickey.pem"])
    for package in packages.values():
        assert run(["rpm", "--dbpath", tmp_path, "-K", package]) == f"{package}: digests signatures OK\n"
    assert (repository / "repodata" / "updateinfo.xml.gz").is_file()


@pytest.mark.slow
def test_the_stand_in_programs_own_tests_pass(cache: Cache) -> None:
    run([go_toolchain(cache, Progress()), "vet", "./..."], cwd=AGENTS)
    run([go_toolchain(cache, Progress()), "test", "./..."], cwd=AGENTS)


def contents(root: Path) -> Mapping[Path, bytes]:
    return {file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def published_fingerprint(store: ArtifactStore) -> str:
    with gpg_home() as home:
        gpg(home, "--import", store.root / store.version / "publickey.pem")
        keys = gpg(home, "--with-colons", "--list-keys")
    return next(line.split(":")[9] for line in keys.splitlines() if line.startswith("fpr:"))
