"""Figures of chest X-rays for notebook 01. The lessons call them by `util`."""

import cv2
import numpy as np
import pandas as pd


def points_into_box(heat_map: np.ndarray, boxes: pd.DataFrame) -> bool:
    """Whether the highest point of a heat map lies in one of the boxes: the pointing game (Zhang et al., IJCV 2018).

    Parameters
    ----------
    heat_map : ndarray, (height, width)
    boxes : DataFrame
        ``x, y, w, h`` as fractions of the image.
    """
    height, width = heat_map.shape
    row, column = np.unravel_index(np.argmax(heat_map), heat_map.shape)
    x, y = (column + 0.5) / width, (row + 0.5) / height
    inside = boxes["x"].le(x) & boxes["y"].le(y) & (boxes["x"] + boxes["w"]).ge(x) & (boxes["y"] + boxes["h"]).ge(y)
    return bool(inside.any() and heat_map.max() > 0)


def stamp_marker(films: np.ndarray, letter: str = "E") -> np.ndarray:
    """X-rays with a bright lead letter in the upper left corner, as a department marks all of its images.

    Parameters
    ----------
    films : ndarray of uint8, (films, height, width)
    letter : str

    Returns
    -------
    ndarray of uint8
        A copy.
    """
    films = films.copy()
    size = films.shape[1]
    for film in films:
        corner = (int(0.05 * size), int(0.17 * size))
        cv2.putText(film, letter, corner, cv2.FONT_HERSHEY_SIMPLEX, size / 220, 255, max(1, size // 64), cv2.LINE_AA)
    return films
