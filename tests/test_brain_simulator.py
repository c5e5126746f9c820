"""The physics and anatomy of the simulated brain scans against theory and closed formulas."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from data.brain_simulator import anatomy as brain_anatomy
from data.brain_simulator import contrast as brain_contrast
from data.brain_simulator import cortex as brain_cortex
from data.brain_simulator import tumour as brain_tumour
from data.brain_simulator.anatomy import Grid
from data.brain_simulator.contrast import Tissue, gradient_echo, inversion_recovery, spin_echo, thick_slices
from data.brain_simulator.tumour import arrival_time, front_speed

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
        (spin_echo, {"tr": 600, "te": 10}),
        (inversion_recovery, {"tr": 9000, "te": 100, "ti": 2400}),
        (gradient_echo, {"tr": 15, "te": 4, "flip": 0.4}),
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


def test_noise_is_rician():
    """Gudbjartsson and Patz (1995): mean square A^2 + 2 sigma^2; Rayleigh without signal; nearly Gaussian with much."""
    rng = np.random.default_rng(0)
    for signal in (0.0, 1.0, 3.0, 40.0):
        noisy = brain_contrast.rician(rng, np.full((60, 60, 60), signal, np.float32), 1.5)
        assert (noisy**2).mean() == pytest.approx(signal**2 + 2 * 1.5**2, rel=0.01)
        if signal == 0:
            assert noisy.mean() == pytest.approx(1.5 * np.sqrt(np.pi / 2), rel=0.01)
            assert noisy.std() == pytest.approx(1.5 * np.sqrt(2 - np.pi / 2), rel=0.01)
    assert noisy.std() == pytest.approx(1.5, rel=0.01)
    assert noisy.mean() == pytest.approx(40 + 1.5**2 / (2 * 40), abs=0.03)


def test_motion_is_nothing_for_a_still_head_and_keeps_the_energy_of_a_moving_one():
    image = np.random.default_rng(0).random((5, 32, 4), dtype=np.float32)
    still = brain_contrast.motion(image, 1, np.full(4, 2.5), np.array([0.2, 0.5, 0.7]))
    assert np.allclose(still, image, atol=1e-5), "the same place all the time, wherever that is"
    moving = brain_contrast.motion(image, 1, np.array([0, 1.0, -2.0, 3.0]), np.array([0.2, 0.5, 0.8]))
    assert np.abs(moving - image).max() > 0.05
    assert np.allclose((moving**2).sum(1), (image**2).sum(1), rtol=1e-4), "Parseval"
    assert np.array_equal(image, np.random.default_rng(0).random((5, 32, 4), dtype=np.float32)), "the input was changed"


def test_a_jump_before_and_after_the_middle_of_k_space_shifts_only_the_fine_detail():
    n = 64
    wave = {k: np.cos(2 * np.pi * k * np.arange(n) / n).reshape(1, n).astype(np.float32) for k in (3, 28)}
    shifts, times = np.array([4.0, 0.0, 4.0]), np.array([0.25, 0.75])  # outer quarters of k-space see it 4 voxels aside
    for k, moved in ((3, 0), (28, 4)):
        expected = np.abs(np.roll(wave[k], moved, 1))
        # the reference is the middle of the acquisition, where the shift is 0
        assert np.allclose(brain_contrast.motion(wave[k], 1, shifts, times), expected, atol=1e-4)


def test_a_partial_scan_lacks_flair_beyond_a_plane_and_keeps_the_tumour():
    place = np.indices((60, 60, 38))
    head = sum(((p - c) / h) ** 2 for p, c, h in zip(place, (30, 28, 19), (17, 22, 17), strict=True)) < 1
    mass = head & (sum((p - c) ** 2 for p, c in zip(place, (24, 22, 20), strict=True)) < 40)
    for seed in range(8):
        images = np.repeat((100 * head).astype(np.int16)[..., None], 4, -1)
        labels = mass.astype(np.uint8)
        brain_contrast.cut_slab(np.random.default_rng(seed), images, labels)
        assert np.array_equal(images[..., 1:] > 0, np.repeat(head[..., None], 3, -1)), "the other sequences are whole"
        lost = head & (images[..., 0] == 0)
        assert 0.02 < lost.sum() / head.sum() < 0.5
        assert not labels[lost].any() and labels.sum() >= 0.89 * mass.sum()
        design = np.column_stack([*np.argwhere(head).T, np.ones(head.sum())])
        side = np.where(lost[head], 1.0, -1.0)
        normal = np.linalg.lstsq(design, side, rcond=None)[0]
        score = design @ normal
        cut = score[lost[head]].min()
        assert (score[~lost[head]] > cut).mean() < 0.05, "what is lost lies on one side of a plane"


def test_distance_to_a_sheet_is_right_for_a_plane_and_near_a_sphere():
    x, y, z = np.meshgrid(*[np.arange(-20, 21, dtype=np.float32)] * 3, indexing="ij")
    plane = 0.7 * (0.6 * x + 0.8 * z - 3)
    assert np.allclose(brain_cortex.sheet_distance(plane, 1.0), np.abs(0.6 * x + 0.8 * z - 3), atol=1e-3)
    assert np.allclose(brain_cortex.sheet_distance(plane, 2.0), 2 * np.abs(0.6 * x + 0.8 * z - 3), atol=2e-3), "spacing counts"
    r = np.sqrt(x**2 + y**2 + z**2)
    near = np.abs(r - 12) < 3
    assert np.abs(brain_cortex.sheet_distance(r**2 - 144, 1.0) - np.abs(r - 12))[near].max() < 0.6, "curved: to first order"


def test_cortex_has_its_thickness_and_fractions_between_zero_and_one():
    distance = np.arange(0, 12, 0.01)
    fluid, white = brain_cortex.cortex(distance, 0.8, 2.4)
    grey = 1 - fluid - white
    assert min(fluid.min(), white.min(), grey.min()) >= 0
    assert fluid.sum() * 0.01 == pytest.approx(0.8, abs=0.06) and grey.sum() * 0.01 == pytest.approx(2.4, abs=0.06)
    assert fluid[0] == 1 and white[-1] == 1 and np.all(np.diff(white) >= 0) and np.all(np.diff(fluid) <= 0)


def test_depth_below_the_surface_counts_the_falx():
    """In a block of brain, the nearest surface of a voxel beside the midline is the falx, of one far from it the block's side."""
    size, origin = (121, 161, 121), (60, 90, 50)
    mask = np.zeros(size, bool)
    mask[10:111, 10:151, 10:111] = True
    surface = brain_cortex.template_surface(mask, np.ones(size, np.float32), np.zeros(size, bool), origin)
    at = (origin[0] + 12, origin[1] + 40, origin[2] + 20)  # in front of the corpus callosum
    assert surface.depth[at] == pytest.approx(12, abs=1.1)
    assert surface.foot[(0, *at)] == pytest.approx(-12, abs=1.1)
    assert np.abs(surface.foot[(slice(1, 3), *at)]).max() < 0.5
    at = (origin[0] + 42, origin[1] + 20, origin[2] + 20)
    assert surface.depth[at] == pytest.approx(110 - at[0] + 1, abs=1.1)
    assert surface.foot[(0, *at)] == pytest.approx(110 - at[0] + 1, abs=1.1)
    assert surface.small_brain[origin[0], origin[1] - 60, origin[2] - 35] > 0.9 and surface.small_brain[at] == 0


def test_template_is_the_one_that_nilearn_gives():
    from nilearn import datasets

    for name in ("t1", "gm", "wm"):
        loader = getattr(datasets, "load_mni152_template" if name == "t1" else f"load_mni152_{name}_template")
        assert np.array_equal(brain_anatomy._mni152(name), np.asarray(loader(resolution=1).dataobj, dtype=np.float32)), name


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


def test_anatomy_and_mass_effect_together_can_be_inverted():
    """The map from patient to template has a positive Jacobian everywhere: no tissue is folded over."""
    grid = Grid(2)
    for seed in range(3):
        rng = np.random.default_rng([40, seed])
        plan = brain_tumour.draw_plan(rng, brain_tumour.draw_seed(rng))
        plan.whole, plan.core, plan.swelling = 200.0, 120.0, 0.9  # the hardest that is drawn
        push = brain_tumour.mass_effect(rng, grid, plan)
        warp = brain_anatomy.displacement(rng, grid)
        assert _jacobian([a + b for a, b in zip(push, warp, strict=True)], 2).min() > 0.05


def test_seeds_lie_in_the_cerebrum_on_both_sides():
    rng = np.random.default_rng(3)
    seeds = np.array([brain_tumour.draw_seed(rng) for _ in range(400)])
    assert 0.4 < (seeds[:, 0] < 120).mean() < 0.6
    inside = ((seeds - brain_anatomy.CENTRE_OF_BRAIN) / brain_anatomy.HALF_AXES) ** 2
    assert (inside.sum(1) < 1.1).mean() > 0.95
    assert not ((seeds[:, 2] < 60) & (seeds[:, 1] < 85)).any(), "in the cerebellum"


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


def test_patients_have_gyri_of_their_own():
    """Sulci of two patients coincide hardly more than by chance, unless they are the same patient."""
    grid = Grid(2)
    first, again, other = (brain_anatomy.grow_brain(np.random.default_rng([9, n]), grid) for n in (0, 0, 1))
    assert np.array_equal(first.gm, again.gm)
    near = brain_anatomy.distance_from_centre(grid)
    cortical = first.mask & other.mask & (near > 0.55) & (near < 0.9)
    cortical[:, :, : 70 // 2] = False  # above cerebellum and base
    cortical &= (first.deep == 0) & (other.deep == 0)

    def fine(brain: brain_anatomy.Brain) -> np.ndarray:
        return (brain.gm - ndimage.gaussian_filter(brain.gm, 4))[cortical]

    assert abs(np.corrcoef(fine(first), fine(other))[0, 1]) < 0.2
    assert fine(first).std() > 0.2, "there are gyri"
    deep = (first.deep > 0.9) & (other.deep > 0.9)
    assert np.corrcoef(first.gm[deep], other.gm[deep])[0, 1] > 0.3, "the deep nuclei are those of the template"


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


def test_only_what_enhances_is_labelled_so():
    for enhancing in (0.0, 12.0):
        rng = np.random.default_rng([21, int(enhancing)])
        plan = brain_tumour.draw_plan(rng, np.array([85.0, 120.0, 85.0]))
        plan.whole, plan.core, plan.enhancing, plan.ring, plan.blood = 70.0, 30.0, enhancing, 0.7, 0.0
        plan.low_grade = enhancing == 0
        brain = brain_anatomy.grow_brain(rng, Grid(2))
        tumour = brain_tumour.grow_tumour(rng, brain, plan)
        marked = tumour.labels == brain_tumour.ENHANCING
        assert marked.any() == bool(enhancing) == tumour.contrast.any()
        if enhancing:
            assert tumour.contrast[marked].mean() > 5 * tumour.contrast[tumour.labels == brain_tumour.CORE].mean()
            plain = replace(tumour, contrast=np.zeros_like(tumour.contrast))
            given, without = (brain_contrast.scan(np.random.default_rng(1), brain, t) for t in (tumour, plain))
            assert np.array_equal(given[..., [0, 1, 3]], without[..., [0, 1, 3]]), "gadolinium changes T1gd only"
            gain = given[..., 2] / np.maximum(without[..., 2], 1)
            far = brain.mask & ~ndimage.binary_dilation(marked, iterations=3)
            assert np.median(gain[far]) == pytest.approx(1, abs=0.02)
            assert np.median(gain[marked]) > 1.15
            assert np.corrcoef(gain[marked], tumour.contrast[marked])[0, 1] > 0.3, "more agent, more signal"


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
