"""The figures of the bench, as a person reads them."""

from pipeline.bench import Pair, report


def test_the_report_names_each_round_and_both_ratios() -> None:
    pairs = [Pair(ours=210, bare=200), Pair(ours=205, bare=205)]
    assert report(pairs, written=121 * 2**20, installed=110 * 2**20) == (
        "round 1: ours 3 min 30 s, bare packer build 3 min 20 s, ratio 1.05\n"
        "round 2: ours 3 min 25 s, bare packer build 3 min 25 s, ratio 1.00\n"
        "bake (without its proof) over bare packer build: 1.02\n"
        "image's disk 121 MiB over 110 MiB installed: 1.10"
    )
