"""The physics and anatomy of the simulated brain scans against theory and closed formulas."""

import numpy as np
import pytest

from data import brain_anatomy, brain_contrast, brain_tumour
from data.brain_anatomy import Grid
from data.brain_contrast import Tissue, gradient_echo, inversion_recovery, spin_echo, thick_slices
from data.brain_tumour import arrival_time, front_speed

COARSE = Grid(4)


@pytest.mark.parametrize(("diffusivity", "proliferation"), [(0.1, 0.03), (0.4, 0.02)])
def test_front_of_the_growth_travels_with_the_speed_of_theory(diffusivity, proliferation):
    """Kolmogorov, Petrovsky, Piskunov (1937): 2 sqrt(D rho), from below and only slowly."""
    spacing = 0.5
    start = np.zeros(600, np.float32)
    start[:6] = 1
    when = arrival_time(start, np.full(600, diffusivity, np.float32), proliferation, spacing, 290, max_steps=40_000)
    speed = (560 - 300) * spacing / (when[560] - when[300])
    assert speed == pytest.approx(front_speed(diffusivity, proliferation), rel=0.05)


def test_growth_is_faster_in_white_matter_and_stops_at_fluid():
    diffusivity = np.full((40, 21), 0.12, np.float32)
    diffusivity[:, :10] /= 5  # grey half
    diffusivity[30, :] = 0  # fluid
    start = np.zeros_like(diffusivity)
    start[0] = 1
    when = arrival_time(start, diffusivity, 0.03, 1.0, 1e9, max_steps=900)
    assert when[25, 18] < 0.8 * when[25, 2]
    assert np.isinf(when[30:]).all()
    assert np.isfinite(when[:30]).all()
    assert np.all(np.diff(when[1:29, 18]) > 0)
    assert start[1:].max() == 0, "the input was changed"


def test_spin_echo_has_its_closed_values():
    tissue = Tissue(t1=1000, t2=100, density=0.8)
    assert spin_echo(tissue, tr=1e9, te=0) == pytest.approx(0.8)
    assert spin_echo(tissue, tr=1000, te=0) == pytest.approx(0.8 * (1 - 1 / np.e))
    assert spin_echo(tissue, tr=1e9, te=100) == pytest.approx(0.8 / np.e)


def test_inversion_recovery_is_zero_at_its_null_and_full_without_inversion_time():
    tissue = Tissue(t1=4000, t2=1e9, density=1.0)
    assert inversion_recovery(tissue, tr=1e9, te=0, ti=4000 * np.log(2)) == pytest.approx(0, abs=1e-9)
    tr = 9000
    null = 4000 * np.log(2 / (1 + np.exp(-tr / 4000)))
    assert inversion_recovery(tissue, tr=tr, te=0, ti=null) == pytest.approx(0, abs=1e-9)
    assert inversion_recovery(tissue, tr=1e9, te=0, ti=0) == pytest.approx(1.0), "the magnitude of the inverted signal"


def test_gradient_echo_at_ninety_degrees_is_saturation_recovery_and_peaks_at_the_ernst_angle():
    tissue = Tissue(t1=900, t2=1e9, density=0.7)
    assert gradient_echo(tissue, tr=600, te=0, flip=np.pi / 2) == pytest.approx(spin_echo(tissue, tr=600, te=0))
    angles = np.radians(np.arange(1, 90, 0.1))
    best = angles[np.argmax([gradient_echo(tissue, tr=20, te=0, flip=a) for a in angles])]
    assert best == pytest.approx(np.arccos(np.exp(-20 / 900)), abs=0.003)


def test_gadolinium_adds_to_the_relaxation_rate():
    concentration = 0.5  # mM
    shortened = 1 / (1 / 1600 + brain_contrast.RELAXIVITY * concentration / 1000)
    plain, dosed = Tissue(shortened, 80, 0.9), Tissue(1600, 80, 0.9)
    for signal, timing in (
        (spin_echo, dict(tr=600, te=10)),
        (inversion_recovery, dict(tr=9000, te=100, ti=2400)),
        (gradient_echo, dict(tr=15, te=4, flip=0.4)),
    ):
        assert signal(dosed, gadolinium=concentration, **timing) == pytest.approx(signal(plain, **timing))


def test_order_of_the_tissues_in_each_sequence():
    t = brain_contrast.TISSUES
    t1 = {name: spin_echo(x, tr=600, te=12) for name, x in t.items()}
    t2 = {name: spin_echo(x, tr=4500, te=95) for name, x in t.items()}
    flair = {name: inversion_recovery(x, tr=9000, te=120, ti=2400) for name, x in t.items()}
    assert t1["wm"] > max(t1["gm"], t1["edema"]) and min(t1["gm"], t1["edema"]) > t1["necrosis"] > t1["csf"]
    assert t2["csf"] > t2["necrosis"] > t2["edema"] > t2["gm"] > t2["wm"]
    assert flair["edema"] > flair["gm"] > flair["wm"] > flair["csf"]


def test_thick_slices_keep_the_mean_and_are_the_identity_for_thin_ones():
    rng = np.random.default_rng(0)
    image = rng.random((6, 40, 5), dtype=np.float32)
    assert np.array_equal(thick_slices(image, 1, 1.0), image)
    constant = np.full_like(image, 3.0)
    assert np.allclose(thick_slices(constant, 1, 3.7), 3.0)
    thick = thick_slices(image, 1, 4.0)
    assert thick.shape == image.shape
    assert thick.std() < 0.6 * image.std()
    assert thick.mean() == pytest.approx(image.mean(), abs=0.01)
    point = np.zeros((1, 41, 1), np.float32)
    point[0, 20] = 1
    assert np.count_nonzero(thick_slices(point, 1, 5.0)[0, :, 0] > 1e-6) in range(6, 12), "a point spreads over two slices"


def test_noise_fields_have_unit_variance_everywhere():
    axes = [np.arange(24, dtype=np.float32) for _ in range(3)]
    draws = np.stack([brain_anatomy.smooth_noise(np.random.default_rng(i), axes, 8) for i in range(400)])
    assert draws.std(0).mean() == pytest.approx(1, abs=0.03)
    assert abs(draws.std(0) - 1).max() < 0.25
    assert abs(draws.mean()) < 0.05


def _jacobian(field: list[np.ndarray], spacing: float) -> np.ndarray:
    gradients = np.stack([np.stack(np.gradient(f, spacing), -1) for f in field], -2)
    return np.linalg.det(np.eye(3) - gradients)


def test_deformations_do_not_fold():
    for seed in range(3):
        field = brain_anatomy.displacement(np.random.default_rng(seed), COARSE)
        assert _jacobian(field, 4).min() > 0
        assert np.abs(field).max() > 4, "patients would all look alike"


def test_mass_effect_points_away_from_the_tumour_and_leaves_the_skull_alone():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        plan = brain_tumour.draw_plan(rng, brain_tumour.draw_seed(rng))
        push = brain_tumour.mass_effect(rng, COARSE, plan)
        place = np.meshgrid(*COARSE.axes(), indexing="ij")
        outward = sum(p * (x - s) for p, x, s in zip(push, place, plan.seed, strict=True))
        assert outward.min() >= 0
        assert outward.max() > 0
        assert _jacobian(push, 4).min() > 0
        for p in push:
            assert p[0].any() == p[-1].any() == p[:, 0].any() == p[:, -1].any() == False  # noqa: E712


def test_plans_cover_the_range_of_the_real_masks():
    rng = np.random.default_rng(1)
    plans = [brain_tumour.draw_plan(rng, np.zeros(3)) for _ in range(500)]
    whole = np.array([p.whole for p in plans])
    assert whole.min() >= 20 and whole.max() <= 250
    assert 60 < np.median(whole) < 110
    assert all(p.enhancing <= p.core <= p.whole for p in plans)
    low_grade = [p for p in plans if p.low_grade]
    assert 0.12 < len(low_grade) / len(plans) < 0.28
    assert any(p.enhancing == 0 for p in low_grade)
    assert any(p.cyst for p in plans) and any(p.blood for p in plans)


@pytest.fixture(scope="module")
def patients() -> list[tuple[brain_anatomy.Brain, brain_tumour.Tumour, brain_tumour.Plan]]:
    made = []
    for seed in range(4):
        rng = np.random.default_rng([7, seed])
        plan = brain_tumour.draw_plan(rng, brain_tumour.draw_seed(rng))
        brain = brain_anatomy.grow_brain(rng, COARSE, brain_tumour.mass_effect(rng, COARSE, plan))
        made.append((brain, brain_tumour.grow_tumour(rng, brain, plan), plan))
    return made


def test_a_brain_has_the_size_and_the_tissues_of_a_brain(patients):
    for brain, _, _ in patients:
        assert 1150 < brain.mask.sum() * 0.064 < 1900, "ml"
        total = brain.wm + brain.gm + brain.csf
        assert np.allclose(total[brain.mask], 1, atol=1e-5)
        assert min(brain.wm.min(), brain.gm.min(), brain.csf.min()) >= -1e-6
        shares = [part[brain.mask].mean() for part in (brain.wm, brain.gm, brain.csf)]
        assert 0.25 < shares[0] < 0.6 and 0.2 < shares[1] < 0.55 and 0.04 < shares[2] < 0.3


def test_patients_differ(patients):
    first, second = patients[0][0], patients[1][0]
    both = first.mask & second.mask
    assert np.corrcoef(first.wm[both], second.wm[both])[0, 1] < 0.8


def test_the_tumour_has_the_planned_volumes_and_lies_in_the_brain(patients):
    for brain, tumour, plan in patients:
        assert not np.any(tumour.labels[~brain.mask])
        assert set(np.unique(tumour.labels)) <= {0, 1, 2, 3}
        volume = np.count_nonzero(tumour.labels) * 0.064
        assert 0.75 * plan.whole < volume < 1.1 * plan.whole
        core = np.count_nonzero(tumour.labels >= 2) * 0.064
        assert core == pytest.approx(plan.core, rel=0.2, abs=1)
        for part in (tumour.edema, tumour.solid, tumour.necrosis, tumour.blood):
            assert part.min() >= 0 and part.max() <= 1 + 1e-5
        assert tumour.solid[tumour.labels >= 2].mean() + tumour.necrosis[tumour.labels >= 2].mean() > 0.5
        assert tumour.contrast[tumour.labels == 0].mean() < 0.01


def test_edema_prefers_white_matter(patients):
    shares = [(b.wm[t.labels == 1].mean(), b.wm[b.mask].mean()) for b, t, _ in patients]
    assert np.mean([inside for inside, _ in shares]) > 1.1 * np.mean([everywhere for _, everywhere in shares])


def test_scans_are_zero_outside_the_brain_only(patients):
    brain, tumour, _ = patients[0]
    images = brain_contrast.scan(np.random.default_rng(0), brain, tumour)
    assert images.dtype == np.int16 and images.shape == (*COARSE.shape, 4)
    assert np.array_equal((images > 0).all(-1), brain.mask)
    assert not images[~brain.mask].any()
    edema, healthy = tumour.labels == 1, brain.mask & (tumour.labels == 0) & (brain.wm > 0.9)
    for channel in (0, 3):  # FLAIR and T2w show edema bright
        assert images[edema, channel].mean() > 1.1 * images[healthy, channel].mean()
