"""Physics, geometry and signs of the simulated chest films."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from data.chest_simulator import anatomy
from data.chest_simulator import film as chest_film
from data.chest_simulator import projection as physics
from data.chest_simulator.curves import Curve
from data.nih import FINDINGS

CANVAS = physics.Canvas(n=120, pixel=1.0, left=-60.0, top=-60.0, distance=1e9, plate=0.0, beam_y=0.0, rotation=0.0)


def numerical_chord(inside, x: float, y: float, reach: float = 120.0, steps: int = 48_001) -> float:
    """Length along z for which `inside(x, y, z)`, by counting steps."""
    z = np.linspace(-reach, reach, steps)
    return float(inside(x, y, z).mean() * 2 * reach)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_curves_are_those_of_scipy_to_the_last_bit(shape):
    rng = np.random.default_rng(0)
    for trial in range(60):
        x = np.sort(rng.uniform(-5, 5, rng.integers(3, 17)))
        y = rng.normal(size=(len(x), *shape)).round(trial % 3)  # rounded to whole numbers, some stretches are flat
        if trial % 4 == 0:
            y = np.sort(y, axis=0)
        at = np.r_[rng.uniform(-7, 7, 50), x]
        assert np.array_equal(Curve(x, y)(at), PchipInterpolator(x, y)(at))


def test_follow_up_with_the_same_body_has_the_same_vessels_as_if_it_came_first():
    (one, _), (other, _) = person(3), person(4)
    first, rng = anatomy.vessel_trees(one)
    again, kept = anatomy.vessel_trees(one)
    anatomy.vessel_trees(other)
    anew, fresh = anatomy.vessel_trees(one)
    assert again is first and anew is not first
    assert all(np.array_equal(a, b) for pair in zip(first, anew, strict=True) for a, b in zip(*pair, strict=True))
    assert rng.random() == kept.random() == fresh.random()
    wider, _ = anatomy.vessel_trees(replace(one, width=one.width * 1.1))
    assert not np.array_equal(wider[0][0], first[0][0])


def person(seed: int = 3, view: str = "PA") -> tuple[anatomy.Body, chest_film.Setup]:
    rng = np.random.default_rng(seed)
    return anatomy.sample_body(rng, "M", 55.0), chest_film.sample_setup(rng, view)


@pytest.mark.parametrize("angle", [0.0, 0.7, -1.2])
def test_chord_of_an_ellipsoid_is_its_integral(angle):
    centre, axes = (5.0, -8.0), (30.0, 18.0, 25.0)

    def inside(x, y, z):
        dx, dy = x - centre[0], y - centre[1]
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        return (along / axes[0]) ** 2 + (across / axes[1]) ** 2 + (z / axes[2]) ** 2 <= 1

    rng = np.random.default_rng(0)
    for x, y in rng.uniform(-35, 35, (40, 2)):
        expected = numerical_chord(inside, x, y)
        got = physics.ellipsoid(np.float32([[x]]), np.float32([[y]]), centre, axes, angle).item()
        assert got == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("power", [2.0, 3.0])
def test_half_chord_of_a_loft_is_its_integral(power):
    left, right, depth = -40.0, 25.0, 33.0

    def inside(x, y, z):
        return np.abs((x - (left + right) / 2) / ((right - left) / 2)) ** power + np.abs(z / depth) ** power <= 1

    row = [np.array([[value]], np.float32) for value in (left, right, depth)]
    for x in np.linspace(-45, 30, 25):
        got = 2 * physics.loft(np.float32([[x]]), *row, power).item()
        assert got == pytest.approx(numerical_chord(inside, x, 0.0), abs=0.05)


def test_overlap_of_intervals():
    first, second, third = ((np.float32([a]), np.float32([b])) for a, b in ((0, 10), (4, 20), (-5, 6)))
    assert physics.overlap(first, second) == 6
    assert physics.overlap(first, second, third) == 2
    assert physics.overlap(first, (np.float32([11]), np.float32([12]))) == 0


@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.8, 0.6, 0.0), (0.8, 0.0, 0.6)])
def test_chord_of_a_round_tube(direction):
    """A tube of radius r: 2 sqrt(r^2 - d^2) / cos(inclination to the film), also where it leaves the film plane."""
    radius, direction = 9.0, np.array(direction)
    line = (np.linspace(-90, 90, 721)[:, None] * direction)[None]
    chord = physics.tubes(CANVAS, line, radius)
    x, y = CANVAS.at(0.0)
    flat = np.hypot(direction[0], direction[1])
    distance = np.abs(x * direction[1] - y * direction[0]) / flat
    expected = 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0)) / flat
    middle = (slice(40, 80), slice(40, 80))
    assert np.abs(chord - expected)[middle].mean() < 0.25
    assert np.abs(chord - expected)[middle][distance[middle] < 0.8 * radius].max() < 0.8


def test_tube_keeps_its_volume_under_magnification():
    """What a tube holds does not depend on how large it is projected."""
    near = replace(CANVAS, distance=1000.0, plate=250.0)
    line = np.stack([np.linspace(-20, 20, 161), np.zeros(161), np.zeros(161)], -1)[None]
    scale = float(near.magnification(0.0))
    assert scale == pytest.approx(1000 / 750)
    volume = physics.tubes(near, line, 3.0).sum() / scale**2
    assert volume == pytest.approx(np.pi * 3.0**2 * 40, rel=0.02)


def test_attenuation_of_a_slab_follows_beer_and_lambert():
    """Behind 100 mm of soft tissue, without scatter, exp(-mu x) of the photons arrive, and their noise is Poisson's."""
    quiet = physics.Exposure(
        photons=1e5,
        scatter=0.0,
        scatter_width=40,
        compression=0,
        low=0,
        high=1,
        contrast=3,
        brightness=0.5,
        headroom=0.1,
        sharpening=0,
        white=255,
        fog=0,
        blur=0.1,
    )
    slab = np.full((200, 200), physics.MU_SOFT * 100, np.float32)
    signal = np.exp(-physics.detect(slab, quiet, 1.0, np.random.default_rng(1)))
    expected = np.exp(-0.2048 * 1.06 * 10)
    # The detector adds a veil of 0.2 % of the open beam.
    assert signal.mean() == pytest.approx(expected + 0.002, rel=2e-3)
    assert signal.std() == pytest.approx(np.sqrt((expected + 0.002) / 1e5), rel=0.03)


def test_scatter_fills_a_shadow():
    """A narrow shadow in a bright field: as much scatter as primary light must cost it more than half its contrast."""
    field = np.zeros((128, 128), np.float32)
    field[:, 59:69] = 3.0  # 20 mm wide, much less than the scatter spreads
    _, setup = person()
    contrast = []
    for scatter in (0.0, 1.0):
        exposure = replace(setup.exposure, scatter=scatter, scatter_width=40.0)
        signal = physics.detect(field, exposure, 2.0, np.random.default_rng(0))
        contrast.append(signal[:, 62:66].mean() - signal[:, :20].mean())
    assert contrast[0] == pytest.approx(3.0, abs=0.15)
    assert contrast[1] < 0.5 * contrast[0]


def test_tissues_are_ordered_as_in_nature():
    assert physics.MU_AIR < physics.MU_LUNG < physics.MU_FAT < physics.MU_SOFT < physics.MU_MARROW < physics.MU_BONE


def test_magnification_is_that_of_similar_triangles():
    """A plane at z is enlarged by source distance over source-to-plane distance, on PA and on AP."""
    for view, distance in (("PA", 1830.0), ("AP", 1150.0)):
        body, setup = person(view=view)
        canvas = chest_film.Scene(body, replace(setup, view=view), 64).canvas
        toward_source = -1 if view == "PA" else 1  # the tube is behind the patient on PA, in front on AP
        source = canvas.plate + toward_source * distance
        for z in (-60.0, 0.0, 60.0):
            assert canvas.magnification(z) == pytest.approx(distance / abs(source - z))
            points = np.array([[-50.0, 0.0, z], [50.0, 0.0, z]])
            turned = replace(canvas, rotation=0.0).project(points)[0]
            assert np.diff(turned)[0] * canvas.pixel == pytest.approx(100 * distance / abs(source - z))


def test_a_hollow_tube_is_a_tube_without_its_inside():
    line = np.stack([np.linspace(-40, 40, 321), np.zeros(321), np.zeros(321)], -1)[None]
    whole, inner = physics.tubes(CANVAS, line, 9.0), physics.tubes(CANVAS, line, 6.0)
    assert np.abs(physics.tubes(CANVAS, line, 9.0, hollow=(3.0, 0.0)) - (whole - inner)).max() < 1e-3
    assert np.abs(physics.tubes(CANVAS, line, 9.0, hollow=(3.0, 0.4)) - (whole - 0.6 * inner)).max() < 1e-3


def test_a_tube_that_leaves_the_film_is_cut_and_one_beside_it_is_absent():
    line = np.stack([np.linspace(-200, 200, 1601), np.full(1601, 59.0), np.zeros(1601)], -1)[None]
    larger = replace(CANVAS, n=160, left=-80.0, top=-80.0)
    inside = physics.tubes(larger, line, 6.0)[20:140, 20:140]
    assert np.abs(physics.tubes(CANVAS, line, 6.0) - inside)[:, 7:-7].max() < 0.05  # up to a radius from where it is cut
    assert physics.tubes(CANVAS, line + [0, 500, 0], 6.0).max() == 0


def test_vessels_taper_and_split_by_murrays_law():
    """Daughters' cubed radii add up to the parent's, up to the loss that is built in; each branch ends thinner."""
    body, _ = person()
    tree = anatomy.vessel_tree(body, 1, np.random.default_rng(0))
    for (points, radii), (next_points, next_radii) in itertools.pairwise(tree):
        assert (radii[:, -1] < radii[:, 0]).all()
        daughters = next_radii[:, 0].reshape(-1, 2)
        assert np.sum(daughters**3, axis=1) == pytest.approx((0.93 * radii[:, 0]) ** 3)
        assert np.allclose(next_points[:, 0].reshape(-1, 2, 3), points[:, -1:])


@pytest.mark.parametrize("sex", ["M", "F"])
def test_healthy_hearts_are_at_most_half_as_wide_as_the_chest(sex):
    ratios = []
    for seed in range(60):
        body = anatomy.sample_body(np.random.default_rng(seed), sex, 20 + seed)
        ratios.append(anatomy.heart_ratio(body, 1.0))
        large = replace(body, heart_ratio=0.6)
        assert anatomy.heart_ratio(large, 1.0) > 0.55
        assert anatomy.heart_ratio(body, 0.7) > ratios[-1]  # wider on a high diaphragm
    assert 0.42 < np.mean(ratios) < 0.48 and max(ratios) < 0.5


def test_spine_of_the_scapula_lies_in_the_lungs_on_ap_and_beside_them_on_pa():
    """Medial borders of the shoulder blades over the lungs: much less lung is covered on PA."""
    from data.chest_simulator.skeleton import _shoulder

    body, _ = person()
    covered = {}
    for view in ("PA", "AP"):
        shares = []
        for seed in range(6):
            setup = chest_film.sample_setup(np.random.default_rng(seed), view)
            scene = chest_film.Scene(body, setup, 128)
            bone = np.zeros((scene.n, scene.n), np.float32)
            for side in (-1, 1):
                _shoulder(scene, side, bone)
            blade = bone > 0.05
            shares.append((blade & (scene.lung > 20)).sum() / (scene.lung > 20).sum())
        covered[view] = np.mean(shares)
    assert covered["AP"] > 2 * covered["PA"]


def test_darker_exposure_and_full_range():
    """Brightness moves the display curve; grey levels stay between black and the film's white."""
    _, setup = person()
    ramp = np.repeat(np.linspace(0, 5, 100, dtype=np.float32)[None], 100, 0)
    exposure = replace(setup.exposure, compression=0.0, sharpening=0.0, white=200.0, fog=0.0)
    dark, bright = (physics.develop(ramp, replace(exposure, brightness=b), 4.0) for b in (0.5, 0.1))
    assert (np.diff(dark[50]) >= 0).all() and (np.diff(bright[50]) >= 0).all()
    assert dark.mean() < bright.mean()
    assert dark.min() >= 0 and bright.max() <= 200.0


def test_closer_to_the_tube_is_larger():
    _, setup = person(view="AP")
    body, _ = person()
    widths = {}
    for view in ("PA", "AP"):
        scene = chest_film.Scene(body, replace(setup, view=view, rotation=0.0), 128)
        widths[view] = np.ptp(np.flatnonzero((scene.heart_chord > 1).any(0)))
    assert widths["AP"] > 1.05 * widths["PA"]  # the heart lies in front: far from the plate on AP


def test_lungs_are_dark_and_the_belly_bright():
    body, setup = person()
    setup = replace(setup, border=(0, 0, 0, 0), tilt=0.0)
    image, _ = chest_film.simulate_film(body, setup, {}, 1, 128)
    assert image.shape == (128, 128) and image.dtype == np.uint8
    scene, _ = chest_film.compose(body, setup, {}, 1, 128)
    lung = cv2.warpAffine(scene.lung, scene.to_film(), (128, 128), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    belly = image[-8:, 48:80]
    assert image[lung > 80].mean() + 60 < belly.mean()


@pytest.mark.parametrize("name", FINDINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_box_encloses_the_finding(name, seed):
    """Of what a finding adds to the same body, nearly everything lies in its boxes, and the boxes are on the film."""
    body, setup = person(seed)
    size = 128
    _, boxes = chest_film.simulate_film(body, setup, {name: 0.6}, 40 + seed, size)
    assert list(boxes) == [name] and boxes[name]
    mask = np.zeros((size, size), bool)
    for x, y, w, h in boxes[name]:
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= size and y + h <= size
        mask[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))] = True
    if name in ("Cardiomegaly", "Emphysema"):
        return  # signs of the whole chest: the box is that of heart or lungs, tested below
    # The same changed body, with and without what `draw` adds.
    scene, weights = chest_film.compose(body, setup, {name: 0.6}, 40 + seed, size)
    added = np.abs(scene.fluid) + np.abs(scene.gas) + np.abs(scene.solid) + np.abs(scene.void)
    added = np.where(scene.lung + scene.void + scene.solid > 0, np.minimum(added, scene.lung + scene.void + scene.solid), 0)
    if name == "Pneumothorax":
        added = weights[name]  # the box is that of the free air; the lung beside it fades slowly
    on_film = cv2.warpAffine(added, scene.to_film(), (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    assert on_film[mask].sum() > 0.93 * on_film.sum()


def test_boxes_are_not_the_whole_film():
    body, setup = person()
    for name in ("Nodule", "Mass", "Pleural_Thickening", "Hernia"):
        _, boxes = chest_film.simulate_film(body, setup, {name: 0.5}, 5, 128)
        assert all(w * h < 0.2 * 128**2 for _, _, w, h in boxes[name])


def test_cardiomegaly_is_a_cardiothoracic_ratio_over_one_half():
    body, setup = person()
    setup = replace(setup, rotation=0.0, tilt=0.0)
    ratio = {}
    for severity in (None, 0.0, 1.0):
        scene, _ = chest_film.compose(body, setup, {} if severity is None else {"Cardiomegaly": severity}, 1, 256)
        heart = np.ptp(np.flatnonzero((scene.heart_chord > 3).any(0)))
        chest = np.ptp(np.flatnonzero((scene.lung > 5).any(0)))
        ratio[severity] = heart / chest
    assert ratio[None] < 0.5 < ratio[0.0] + 0.02
    assert ratio[0.0] < ratio[1.0]


def test_effusion_is_bright_and_pneumothorax_dark():
    body, setup = person()
    setup = replace(setup, tilt=0.0)
    for name, sign in (("Effusion", 1), ("Consolidation", 1), ("Pneumothorax", -1)):
        scene, weights = chest_film.compose(body, setup, {name: 0.6}, 8, 128)
        drawn = scene.attenuation()
        for part in (scene.fluid, scene.gas, scene.solid, scene.void, scene.line):
            part[:] = 0
        scene.vessel_share[:] = 1
        scene.rng = np.random.default_rng(setup.seed)
        difference = (drawn - scene.attenuation())[weights[name] > 0.5 * weights[name].max()]
        assert sign * np.median(difference) > 0.05, name


def test_a_finding_is_visible_and_grows_with_severity():
    body, setup = person()
    plain, _ = chest_film.simulate_film(body, setup, {}, 21, 128)
    change = []
    for severity in (0.05, 0.95):
        image, _ = chest_film.simulate_film(body, setup, {"Effusion": severity}, 21, 128)
        change.append(np.abs(image.astype(float) - plain).mean())
    assert 0.2 < change[0] < change[1]


def test_follow_up_shows_the_same_person_and_place():
    """Other exposure and breath, same body: the finding stays on its side."""
    body, setup = person()
    later = chest_film.sample_setup(np.random.default_rng(99), "PA")
    middles = [
        np.mean([x + w / 2 for x, _, w, _ in chest_film.simulate_film(body, s, {"Mass": 0.5}, 6, 128)[1]["Mass"]])
        for s in (setup, later)
    ]
    assert abs(middles[0] - middles[1]) < 20


def test_simulating_changes_neither_body_nor_setup():
    body, setup = person()
    before = repr(body), repr(setup)
    chest_film.simulate_film(body, setup, dict.fromkeys(FINDINGS, 0.7), 3, 64)
    assert (repr(body), repr(setup)) == before


@pytest.mark.parametrize("finding", ["Nodule", "Pneumothorax", "Cardiomegaly"])
def test_twins_differ_by_the_finding_only(finding):
    body, setup = person(5, "AP")
    findings = {finding: 0.9, "Effusion": 0.5}
    image, boxes = chest_film.simulate_film(body, setup, findings, 3, 96)
    shown, bare, places = chest_film.simulate_twins(body, setup, findings, 3, finding, size=96)
    assert np.array_equal(shown, image) and places == boxes[finding]
    difference = np.abs(shown.astype(int) - bare)
    assert difference.max() > 10
    if finding == "Nodule":  # changes nothing elsewhere: the noise is the same
        inside = np.zeros((96, 96), bool)
        for x, y, w, h in places:
            inside[max(int(y) - 3, 0) : int(y + h) + 3, max(int(x) - 3, 0) : int(x + w) + 3] = True
        assert difference[~inside].max() <= 3 and difference[~inside].mean() < 0.2


def test_a_finding_added_to_an_x_ray_leaves_the_other_twin_as_it_was():
    body, setup = person(6)
    image, _ = chest_film.simulate_film(body, setup, {"Effusion": 0.4}, 3, 96)
    shown, bare, places = chest_film.simulate_twins(body, setup, {"Effusion": 0.4}, 3, "Mass", 0.8, 96)
    assert np.array_equal(bare, image) and len(places) == 1
    x, y, w, h = (int(value) for value in places[0])
    assert (shown.astype(int) - bare)[y : y + h, x : x + w].mean() > 5, "a mass is brighter than lung"
