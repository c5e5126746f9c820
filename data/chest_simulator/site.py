"""Hospitals of the simulated chest cohort: who comes, and how X-rays are exposed, processed and marked.

A network that is trained at one hospital meets other patients, another X-ray unit and other habits at the next (Zech et al.,
PLoS Medicine 2018).
"""

from dataclasses import dataclass, field, replace

from data.errors import DataError


@dataclass(frozen=True)
class Site:
    """A hospital, as differences from hospital A.

    Attributes
    ----------
    code : tuple of int
        Goes into all seeds, so that another hospital has other patients.
    ap_share : float
        Share of AP X-rays, which are taken of patients in bed.
    more : dict of finding to float
        Factor on the share of X-rays with the finding.
    test_share : float
        Share of X-rays in the test set.
    """

    name: str
    code: tuple[int, ...] = ()
    ap_share: float = 0.40
    more: dict[str, float] = field(default_factory=dict)
    test_share: float = 0.28

    def adapt(self, setup):
        """The set-up of an X-ray as this hospital takes it; hospital A's is returned as it is."""
        if self.name == "A":
            return setup
        exposure = setup.exposure
        exposure = replace(
            exposure,  # another manufacturer: less grid, flatter tissue, harder and sharper edges
            photons=exposure.photons * 0.6,
            scatter=exposure.scatter * 1.3,
            compression=min(exposure.compression + 0.25, 0.85),
            contrast=exposure.contrast * 1.25,
            brightness=exposure.brightness + 0.06,
            sharpening=min(exposure.sharpening + 0.5, 1.4),
        )
        _, _, y, height, angle = setup.marker
        # The right side is marked, low beside the arm, and no X-ray says "PORTABLE".
        return replace(setup, exposure=exposure, marker=("R", 0.06, 0.55 + y / 4, height * 1.3, angle / 4), text=[])


SITES = {
    "A": Site("A"),
    "B": Site(  # an emergency and heart centre
        "B",
        code=(2,),
        ap_share=0.65,
        more={
            "Cardiomegaly": 2.5,
            "Effusion": 1.6,
            "Pneumonia": 2.5,
            "Edema": 3.0,
            "Consolidation": 1.6,
            "Mass": 0.4,
            "Nodule": 0.4,
            "Fibrosis": 0.5,
            "Pleural_Thickening": 0.5,
            "Hernia": 0.5,
        },
        test_share=0.8,
    ),
}


def find_site(name: str) -> Site:
    """The hospital of that name."""
    if name not in SITES:
        raise DataError(f"there is no simulated hospital {name!r}. Choose one of {', '.join(SITES)}.")
    return SITES[name]
