"""The tables of the Detectron2 system say what its record says."""

import re
import subprocess
import sys
from typing import Iterable, Tuple

import pytest
from ledger_rows import ROOT, results_of, summarize

from mmdiffdet.ledger.experiments import group, pool, select
from mmdiffdet.ledger.statistics import summarise

SHARED = ROOT.parent / 'shared'
TABLES = SHARED / 'seed/ledger'
needs_shared = pytest.mark.skipif(
    not TABLES.is_dir(), reason=f'{TABLES}, the tables of the Detectron2 system, is not there'
)

STABLE = 'sampler_distill_20to1_seed{}_iter2500_stable{}_step1'
TUNED = '_geofeat_ft_iter1000_lrmult{}'
COMBINED = {
    '48.0980 / 1.3130': [STABLE.format(seed, '') for seed in range(3)],
    '48.1163 / 1.0920': [STABLE.format('?', '')],
    '48.5397 / 0.8388': [
        STABLE.format(seed, TUNED.format(mult)) for seed, mult in enumerate((25, 150, 150, 25, 150))
    ],
}


def recorded() -> Iterable[Tuple[str, str, str]]:
    """File, multiplier and 'mean / std' of each number in the sections of
    the record that name files, 2.2 and 5.5, and the combined one of 3.6."""
    text = (SHARED / 'seed/plan2.md').read_text(encoding='utf-8')
    for start, end in (('### 2.2', '\n## 3'), ('### 3.6', '\n## 4'), ('### 5.5', '### 5.6')):
        file = ''
        part = text[text.index(start) :]
        for line in part[: part.index(end)].split('\n'):
            file = (re.findall(r'results/(\S+?\.tsv)', line) or [file])[0]
            for mult, number in re.findall(
                r'(?:`lrmult(\d+)`\D*?)?\*\*(\d+\.\d+ / \d+\.\d+)\*\*', line
            ):
                yield file, mult, number


@needs_shared
def test_every_recorded_mean_and_deviation() -> None:
    results = results_of(TABLES)
    experiments = group(results.runs)
    checked = 0
    for file, mult, number in recorded():
        mean, std = map(float, number.split(' / '))
        stated = [
            s
            for s in results.stated.itertuples()
            if s.source.name == file and s.variant == (('GEO_FEAT_LR_MULT', mult),)
        ]
        if stated:
            found = stated[0].mean, stated[0].std
        else:
            name = file.removesuffix('.tsv').removesuffix('_results')
            if number in COMBINED:
                runs = pool(experiments, 'pool', COMBINED[number]).runs
            else:
                runs = select(
                    experiments, name + (f'@geo_feat_lr_mult={mult}' if mult else '')
                ).runs
            summary = summarise(runs)
            found = summary.mean, summary.std
        # 46.90685 is recorded as 46.9069
        assert found == pytest.approx((mean, std), abs=6e-5), (file, number)
        checked += 1
    assert checked == 50


@needs_shared
def test_all_seed_tables_are_read() -> None:
    results = results_of(TABLES)
    sources = {*results.runs.source, *results.stated.source}
    assert len(sources) == 58
    assert len(results.runs) == 500 and len(results.stated) == 3
    assert not results.runs.train_seed.isna().any()
    seeds = {r.source.name: r.train_seed for r in results.runs.itertuples()}
    assert seeds['guidance_sweep_results_qhead_seed42.tsv'] == 42
    unknown = {path.name for path in results.runs[results.runs.sample_step.isna()].source}
    assert unknown == {'guidance_sweep_results_qhead_seed42.tsv'}


@needs_shared
def test_tool_on_the_tables() -> None:
    done = subprocess.run(
        [sys.executable, 'tools/summarize.py', TABLES],
        cwd=ROOT,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0
    assert re.search(r'5x5 +48\.5397  0\.8388.*final_step1_5seed', done.stdout)
    assert re.search(r'47\.2633  0\.3848.*geo_feat_lr_mult=150', done.stdout)
    assert 'nan' not in done.stdout
    # three graph topologies were tested by a config of one name
    assert (
        'contradiction: same checkpoint, protocol and seed, different results: checkpoint d4f9162a'
    ) in done.stderr
    assert 'warmstart_seed0_step10_results_disk; either one' in done.stderr
    full, none = (f'ablation_graph_topo_{kind}_seed0_stable_step1' for kind in ('full', 'none'))
    done = summarize(TABLES, '--compare', full, none)
    assert (
        'B is worse than A, with 5 and 5 runs; this speaks of these two checkpoints only'
    ) in done.stdout
    assert 'contradiction: same checkpoint' in done.stderr
    assert 'warmstart' not in done.stderr
