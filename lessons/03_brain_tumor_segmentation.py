# %% [markdown]
# # 3 · Brain tumour segmentation on MRI
#
# A scan of the head shows a tumour. How large is it, where does it end, which part of it is active? Surgeons, radiation
# oncologists and trials need these answers voxel by voxel, and drawing them by hand takes an expert an hour per patient.
# Here you build a network that does it in seconds, and then find out how far it can be trusted.
#
# **After it you can**
#
# * read a magnetic resonance (MR) scan: its four sequences, its header, where a voxel lies in the head;
# * look at a volume properly: in three planes, slice by slice, with the expert's mask on top;
# * cut patches out of scans that are too large for a network, and make intensities comparable that have no unit;
# * build a 3D U-Net, watch it learn, and say what its skip connections are for;
# * segment a whole scan by a sliding window, and find the false islands that no patch shows;
# * say of each usual metric which error it does not see, and report results so that nothing is hidden;
# * look at the failures, and save a mask so that a clinical viewer lays it exactly on the scan.
#
# **Time:** about three hours with the exercises; three minutes to run. **Points:** 100, in nine exercises, each with a check under it.
# **You should know** Python, NumPy and what a convolutional network is. Notebooks 1 and 2 are not required.
# Terms and sources are explained in `lessons/glossary.md`, which all three notebooks share. Further exercises carry stars: ★ a
# line or two, ★★ some thought, ★★★ an afternoon.
#
# <details><summary><b>How to work with this notebook</b></summary>
#
# Run a cell with **Shift + Enter**, from the top downwards; the contents are at the left. Where an exercise begins, write your code in place of
# `raise NotImplementedError`, run the cell, then run the check under it: it says what is right, or what is not right yet and why. Change, run the
# cell again, run the check again. *Run All* stops at the first check that fails. The last cells list your points. To hand in, save and upload this one
# file.
# </details>
#
# *Nothing here is a medical device, and no number below is evidence about patients.*

# %% tags=["setup"]
# Finds the course: lessons/setup.py.

# %% tags=["parameters"]
DATA_DIR = None  # None: simulated scans. Or a folder in the format of Decathlon (Task01_BrainTumour) or BraTS
QUICK = False  # True: a short pass for tests, with fewer scans and training steps

# %%
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # spare the reader TensorFlow's greetings

import keras
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
from keras import ops
from nilearn import plotting
from scipy import ndimage

import public_tests
import util
from data import decathlon, nifti
from data.brain_simulator.cohort import brain_cohort
from models.brain import network as brain_network
from models.brain import predict as brain_predict
from models.brain import split_by_patient
from models.weights import load_weights

assert keras.__version__ >= "3", "This course needs Keras 3: pip install -r requirements.txt"
keras.utils.set_random_seed(3)
rng = np.random.default_rng(3)
util.use_course_style()

# %% [markdown]
# ## 3.1 What is in an MR image
#
# *15 minutes. The question: what does a scan consist of, and where in the head is a voxel?*
#
# An MR scanner measures how hydrogen nuclei, mostly those of water, answer radio pulses in a strong magnetic field. The
# timing of the pulses (the **sequence**) decides the contrast, so the same anatomy can be shown in very different ways.
# Gliomas are judged on four sequences:
#
# | sequence | bright | why it is taken |
# | --- | --- | --- |
# | **FLAIR** | edema and infiltrating tumour; free fluid is suppressed and dark | the whole extent of the disease |
# | **T1w** | fat and white matter; fluid is dark | anatomy |
# | **T1gd** (T1 with gadolinium, also T1ce) | vessels, and tumour whose blood–brain barrier leaks | the active, *enhancing* part |
# | **T2w** | all water: fluid, edema, cysts | fluid against solid |
#
# No sequence shows everything, which is why the network will be given all four, as channels. An expert has marked every
# voxel. The numbers of the labels are a matter of the archive, and a program that mixes them up still runs:
#
# | tissue | Decathlon, and this course | BraTS 2017 to 2021 | BraTS since 2023 (adult glioma) |
# | --- | --- | --- | --- |
# | background | 0 | 0 | 0 |
# | edema or infiltrated tissue | 1 | 2 | 2 |
# | non-enhancing or necrotic tumour | 2 | 1 | 1 |
# | enhancing tumour | 3 | 4 | 3 (4: resection cavity) |
#
# (Where the patients are simulated, so is the expert: the mask is what the simulator put there.)
#
# The scans come in a public format, so any folder of the Medical Segmentation Decathlon or of BraTS can take their place:
# name it in `DATA_DIR` above. Without one, the course simulates patients on your machine: the anatomy of a standard brain
# deformed for each patient, a tumour grown by a reaction–diffusion equation, contrasts computed from tissue relaxation.
# The first time, this takes about a minute.

# %%
brain = decathlon.read_brain(DATA_DIR or brain_cohort())
print(f"{len(brain)} scans, {brain.source}")
case = brain[0]
image, label = case.image(), case.label()
print(f"{case.name}: image {image.shape} {image.dtype}, label {label.shape} {label.dtype}")

# %%
cut = util.largest_slice(label == 3 if (label == 3).any() else label > 0)[2]
box = decathlon.brain_box(image, margin=2)
fig = util.show_sequences(image[box], label[box], cut - box[2].start, "expert's mask")
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 1. One axial slice in the four sequences, and the expert's mask on the FLAIR image. As radiologists do, we look
# from the patient's feet: the patient's right (R) is on the left. Find what lights up in T1gd but not in T1w, and the edema,
# which is bright in FLAIR and T2w.*

# %% [markdown]
# ### The file: NIfTI
#
# A NIfTI file (`.nii.gz`) is an array with three or four axes and a header that says how to read it and, above all, **where
# in the head each voxel lies**. An array without this knowledge is not a medical image: left and right could be swapped, and
# no volume in millilitres could be computed.

# %%
header = case.header
gibibytes = image.size * 4 / 2**30
mebibytes = sum(file.stat().st_size for file in case.image_files) / 2**20
table = pd.DataFrame(
    [
        ("dim", header["dim"][1 : header["dim"][0] + 1].tolist(), "voxels along each axis of the array"),
        ("pixdim", header["pixdim"][1:4].round(3).tolist(), f"size of a voxel ({header.get_xyzt_units()[0]})"),
        ("datatype", str(header.get_data_dtype()), f"as stored; as float32, all takes {gibibytes:.2f} GiB"),
        ("scl_slope", str(header["scl_slope"]), "factor on stored values (nan or 1: none)"),
        ("sform_code", str(header["sform_code"]), "where to: 1 scanner, 2 another scan, 3 or 4 an atlas"),
        ("file", case.image_files[0].name, f"{mebibytes:.1f} MiB, compressed, of {len(case.image_files)} file(s)"),
    ],
    columns=["field", "value", "meaning"],
).set_index("field")
util.show_table(table, f"From the header of {case.name}", brain.source)

# %% [markdown]
# The **affine** is a 4×4 matrix $A$ that takes a voxel's indices $(i, j, k)$ to millimetres in the scanner:
# $(x, y, z, 1)^T = A\,(i, j, k, 1)^T$. In NIfTI, $x$ grows to the patient's **r**ight, $y$ to the front (**a**nterior) and $z$
# to the top (**s**uperior): "RAS" for short. The array's own axes may run any way; DICOM and BraTS prefer left and back:
# "LPS". The reader of this course turns every array to RAS, so that index and millimetre grow together, and adapts the affine.
# Follow one voxel of the tumour through the three ways to name its place:

# %%
stored, stored_image = nifti.load(case.label_file), nifti.load(case.image_files[0])
voxel = [int(index) for index in np.argwhere(label == label.max())[0]]
place = nib.affines.apply_affine(case.affine, voxel)
in_file = nib.affines.apply_affine(np.linalg.inv(stored.affine), place).round().astype(int).tolist()
before, after = ("".join(nib.aff2axcodes(affine)) for affine in (stored.affine, case.affine))
rows = [
    ("indices in the file", in_file, f"axes run {before}; index 0, 0, 0 lies at {stored.affine[:3, 3].round(1).tolist()} mm"),
    ("indices after reading", voxel, f"axes run {after}; index 0, 0, 0 lies at {case.affine[:3, 3].round(1).tolist()} mm"),
    ("millimetres", place.round(1).tolist(), "the same for both: this is what a viewer goes by"),
]
table = pd.DataFrame(rows, columns=["", "voxel of the tumour", "meaning"]).set_index("")
util.show_table(table, f"One voxel of {case.name}, named three times", brain.source)
print(f"label there: {label[tuple(voxel)]}; in the file's own code: {int(stored.dataobj[tuple(in_file)])}")
print(f"Whoever takes the file's indices for millimetres is {np.linalg.norm(place - in_file):.0f} mm away.")

# %% [markdown]
# <details><summary>Predict first: the array is drawn as it lies in the file, as if its axes were RAS. On which side will the tumour be?</summary>
#
# With LPS axes, on the other side, and the front of the head where the back should be: the picture is turned by half a turn. A brain is so
# nearly symmetric that nobody would notice if only left and right were swapped.
# </details>

# %%
raw = np.asanyarray(stored_image.dataobj)
raw = raw[..., 0] if raw.ndim == 4 else raw
fig = util.show_axes_of_file((raw, np.asanyarray(stored.dataobj)), (image[..., 0], label), before)
util.sign_figure(fig, brain.source)
del raw, stored_image

# %% [markdown]
# *Figure 2. The same slice twice, drawn by the same code. Left: the array as it is stored. The letters claim sides that are only
# right for RAS. Right: after reading, with the axes turned and the affine adapted. (The colours on the left follow the file's own numbers
# of the labels.)*

# %% [markdown]
# ### Intensities have no unit
#
# In computed tomography, water is 0 Hounsfield units everywhere in the world. An MR intensity is only a number: it depends on
# the scanner, the coil, the sequence and the day. Compare the same sequence in four patients:

# %%
four = {patient.name: patient.image() for patient in brain[:4]}
fig = util.plot_intensities(four, None, "intensity (no unit)")
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 3. Intensities of the same sequence in four patients. What is grey in one is white in another: a threshold that finds
# the tumour of one patient finds nothing, or everything, in the next.*
#
# **Summary.** A scan is four volumes of the same head in different contrast, plus a header. The affine says where each voxel
# lies; never part an array from it. Intensities have no unit and must be standardised per scan.
#
# *Further exercises.* (1) ★ Change one entry of the affine so that it mirrors the head. How would you notice? (2) ★ Guess from
# Figure 3 on which of the patients a network trained on one of them would fail.
#
# <details><summary>Answers</summary>
#
# (1) `affine[0, 0] *= -1` (with the offset adapted). Not from the picture: heads are nearly symmetric. From the determinant, whose sign
# changes, or by comparing with another scan of the patient. (2) On those whose peak lies elsewhere, unless their intensities are
# standardised.
# </details>

# %% [markdown]
# ## 3.2 Exploring volumes
#
# *10 minutes. The question: what do you see before any network has seen it?*
#
# A volume is not a pile of pictures: a tumour that is round in one plane may be a thin plate in another. Look at all three
# planes, with and without the mask, before you train anything. Many a failed project could have been stopped here: masks
# shifted by a slice, left and right swapped, a sequence that covers half of the brain.

# %%
fig = util.show_planes({"FLAIR": image[..., 0]}, label)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 4. The largest cuts through the tumour in three planes. A and P: front (anterior) and back (posterior) of the head.*

# %%
util.scroll_slices(image, label, brain.source)

# %% [markdown]
# *Figure 5. In Jupyter: scroll through the scan, choose the sequence, switch the classes on and off. Without a kernel: a film through the FLAIR
# image from bottom to top, without and with the mask. Radiologists scroll like this all day: what continues from slice to slice is a structure,
# what flickers is noise, or a vessel cut across.*
#
# How much of a scan is tumour? The answer decides how we cut patches, which loss we take and which metrics mean anything.
#
# <details><summary>Predict first: what share of all voxels of a scan is background?</summary>
#
# The last column of the next table says it: nearly all. A glioma of 100 ml is large for a patient and small in an array of nine litres.
# </details>

# %%
chosen = brain.draw(4 if QUICK else 12, np.random.default_rng(19))
rows = []
for patient in util.progress(chosen, description="reading masks", leave=False):
    mask = patient.label()
    volumes = [util.volume_ml(mask == number, patient.spacing) for number in (1, 2, 3)]
    rows.append([patient.name, *volumes, sum(volumes), f"{(mask == 0).mean():.1%}"])
names = [f"{name}, ml" for name in (*util.BRAIN_CLASSES, "whole tumour")]
overview = pd.DataFrame(rows, columns=["patient", *names, "background"]).set_index("patient")
caption = "Volume of each class, and share of all voxels that are background"
util.show_table(overview.sort_index(), caption, brain.source, precision=1)

# %% [markdown]
# **Summary.** Look at three planes, and scroll. Background is nearly everything: whoever calls each voxel healthy is right almost
# always, and useless. The classes differ in size, and so do the patients; some have no enhancing tumour at all.
#
# *Further exercise.* ★ Paint the mask on the T2w image instead. Which of its borders can you still justify?
#
# <details><summary>Answer</summary>
#
# `util.show_planes({"T2w": image[..., 3]}, label)`. The outer border of the edema, mostly. The enhancing part cannot be told from the rest
# of the core on T2w: that border comes from T1gd.
# </details>

# %% [markdown]
# ## 3.3 Patches and standardisation
#
# *25 minutes. The question: how does a scan get into a network that cannot hold it?*
#
# At full resolution, a single layer with eight channels over one scan takes hundreds of megabytes, and training keeps dozens
# of layers. So the network sees boxes cut out of the scan: **patches**. Most places in a head hold no tumour, and patches
# drawn anywhere would teach the network that there never is one. We accept a patch only if it has enough tumour in it.

# %%
whole_mib, patch_mib = (8 * 4 * float(np.prod(shape)) / 2**20 for shape in (case.shape, (64, 64, 64)))
print(f"one layer of 8 channels, float32: whole scan {whole_mib:.0f} MiB, patch of 64³ voxels {patch_mib:.0f} MiB")

# %% [markdown]
# ### Exercise 1: cut a patch (16 points)
#
# Write `get_sub_volume`. Draw a random corner such that the patch fits into the scan. **Every position that fits must be
# possible**: the last one too, and the only one when the scan is as large as the patch. If the share of background voxels
# (label 0) in the patch is below `background_threshold`, return `(X, y)`: the image patch, and its label as one-hot code
# without the background. Otherwise draw again, at most `max_tries` times in all; then return `None`.
#
# <details><summary>Hint 1: the corner</summary>
#
# `rng.integers(0, n)` never gives `n`. A scan of 10 voxels and a patch of 10 leave exactly one start, 0.
# </details>
# <details><summary>Hint 2: one-hot without background</summary>
#
# Compare the label, with a new last axis, with `np.arange(1, num_classes)`: broadcasting does the rest.
# </details>


# %% exercise="get_sub_volume"
def get_sub_volume(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    """Cut a random patch with enough tumour in it.

    Parameters
    ----------
    image : array (x, y, z, channels)
    label : array of int (x, y, z), values 0 (background) to num_classes - 1
    output_x, output_y, output_z : int
        Size of the patch in voxels.
    num_classes : int
        Classes including the background.
    max_tries : int
        Draws before giving up.
    background_threshold : float
        The share of background voxels must be below this.
    rng : numpy.random.Generator, optional
        Source of the random draws; a new one if None.

    Returns
    -------
    (X, y) or None
        X (output_x, output_y, output_z, channels); y (output_x, output_y, output_z, num_classes - 1),
        1 where the label is class 1, 2, … and 0 elsewhere. None when no draw had little enough background.
    """
    rng = np.random.default_rng() if rng is None else rng
    ### BEGIN SOLUTION
    size = (output_x, output_y, output_z)
    for _ in range(max_tries):
        corner = [rng.integers(0, whole - part + 1) for whole, part in zip(label.shape, size)]
        here = tuple(slice(start, start + part) for start, part in zip(corner, size))
        patch = label[here]
        if (patch == 0).mean() < background_threshold:
            return image[here], (patch[..., None] == np.arange(1, num_classes)).astype(np.float32)
    return None
    ### END SOLUTION


# %% check="get_sub_volume" points=16
public_tests.get_sub_volume_test(get_sub_volume)

# %% tags=["example"]
pair = get_sub_volume(image, label, 96, 96, 32, background_threshold=0.97, rng=rng)
assert pair is not None, f"{case.name} has too little tumour for such a patch: show another case"
patch, patch_label = pair
middle = patch_label.any(axis=-1).sum(axis=(0, 1)).argmax()
as_map = (patch_label * [1, 2, 3]).sum(axis=-1).astype(int)
fig = util.show_sequences(patch, as_map, middle, "y", letters=False)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 6. The slice of a random patch with most tumour: the four channels of X, and y painted on the first.*

# %% [markdown]
# ### Exercise 2: standardise (12 points)
#
# Write `standardize`: bring **each channel of the whole scan** to mean 0 and standard deviation 1. Count only the brain, that is
# all voxels where *any* channel is non-zero: the scans come without the skull, and the zeros around them would otherwise decide
# the mean. Outside the brain the result is 0.
#
# <details><summary>Hint 1: the brain</summary>
#
# With `inside = (image != 0).any(axis=-1)`, `image[inside]` is a table: one row per voxel, one column per channel.
# </details>
# <details><summary>Hint 2: special cases</summary>
#
# The scan may be of integers; a result written into a copy of it would be cut to integers too. And a channel that is constant
# over the brain has standard deviation 0: its standardised value is 0, not nan.
# </details>


# %% exercise="standardize"
def standardize(image):
    """Standardise a scan.

    Parameters
    ----------
    image : array (x, y, z, channels)
        Zero outside the brain.

    Returns
    -------
    array of float, same shape
        Each channel has mean 0 and standard deviation 1 over the brain (the voxels where any channel is
        non-zero) and is 0 outside. The argument is not changed.
    """
    ### BEGIN SOLUTION
    inside = (image != 0).any(axis=-1)
    values = image[inside].astype(np.float32)
    constant = (values == values[:1]).all(axis=0)  # the sd of equal numbers is not always exactly 0
    scaled = (values - values.mean(axis=0)) / np.where(constant, 1, values.std(axis=0))
    result = np.zeros(image.shape, np.float32)
    result[inside] = np.where(constant, 0, scaled)
    return result
    ### END SOLUTION


# %% check="standardize" points=12
public_tests.standardize_test(standardize)

# %% [markdown]
# Why over the whole scan, and not slice by slice, as much code on the web does? Try it:
#
# <details><summary>Predict first: slice by slice, what happens to the healthy tissue beside the tumour?</summary>
#
# A bright tumour raises the mean of its own slice, so the healthy tissue there comes out darker than the same tissue a few slices away.
# </details>

# %%
flair, tumour = image[box][..., :1], label[box] > 0
whole = standardize(flair)
by_slice = np.zeros_like(whole)
for k in range(flair.shape[2]):
    if flair[:, :, k].any():
        by_slice[:, :, k] = standardize(flair[:, :, k : k + 1])[:, :, 0]
sagittal = util.largest_slice(tumour)[0]
healthy = (flair[..., 0] > 0) & ~tumour
shown = [k for k in range(flair.shape[2]) if healthy[:, :, k].sum() > 2000]
fig, axes = plt.subplots(1, 3, figsize=(8.8, 2.8), width_ratios=[1, 1, 0.9])
for axis, volume, name in zip(axes, (whole, by_slice), ("whole scan", "slice by slice")):
    util.paint_slice(axis, np.where(flair == 0, -3, volume)[..., 0], plane="sagittal", at=sagittal)
    axis.set_title(f"FLAIR, {name}")
    axes[2].plot(shown, [volume[:, :, k, 0][healthy[:, :, k]].mean() for k in shown], label=name)
ends = np.flatnonzero(tumour.any(axis=(0, 1)))[[0, -1]]
axes[2].axvspan(*ends, color="#F0E442", alpha=0.4, linewidth=0, label="slices with tumour")
axes[2].set(title="mean FLAIR of healthy brain", xlabel="axial slice", ylabel="standard deviations")
axes[2].legend(fontsize=8)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 7. Left and middle: the same sagittal cut. Right: the mean of the healthy brain in each axial slice. Slice by slice, every
# slice gets a mean and a spread of its own, and the tumour has a say in them: the same healthy tissue is called darker where there is a
# tumour beside it, and the difference between slices at the top and the bottom of the brain, which is anatomy, is wiped out.*

# %%
fig = util.plot_intensities(
    {name: standardize(scan[decathlon.brain_box(scan)]) for name, scan in four.items()}, (-3, 5), "standard deviations"
)
util.sign_figure(fig, brain.source)
del four

# %% [markdown]
# *Figure 8. The four patients of Figure 3 after standardisation: now on one scale.*
#
# **Summary.** Networks learn from patches, and those with too little tumour are drawn again. Each channel is standardised over the
# brain of the whole scan: never over the background, never slice by slice, never with the numbers of other patients.
#
# *Further exercise.* ★ Draw 100 patches with `background_threshold=1.01` (every patch is welcome). What share of them holds any tumour?
#
# <details><summary>Answer</summary>
#
# `np.mean([get_sub_volume(image, label, 48, 48, 48, background_threshold=1.01)[1].any() for _ in range(100)])`. It depends on the size of the
# tumour, and more on that of the patch: a large patch nearly always catches a piece, mostly a small one.
# </details>

# %% [markdown]
# ## 3.4 The 3D U-Net
#
# *20 minutes. The question: how can a network see far and still draw a sharp border?*
#
# To say what a voxel is, one must see its surroundings (is this bright spot in a tumour, or is it a vessel?) and still know exactly
# where its border runs. The **U-Net** does both. On the way down it halves the resolution and gains channels: it sees more, less
# sharply. On the way up it doubles the resolution again, and each level gets the detail of its twin on the way down back, through a
# **skip connection**.
#
# At full resolution even a few channels are slow and fill the memory. So the first convolution **folds** each cube of 2×2×2 voxels into one
# voxel with 16 channels, and the last one unfolds it again: every voxel still gets an answer of its own.
#
# Each step between them is two 3×3×3 convolutions. After each one, **instance normalisation** brings every channel of every sample to mean 0 and
# spread 1. Batch normalisation would average over the batch, but 3D batches hold one or two patches, too few for statistics. At
# the end, a softmax over four classes makes them exclude each other; the network returns the three that are not background.

# %%
shipped = brain_network.unet3d(name="shipped")
fig = util.draw_unet(brain_network.FILTERS, side=64)
util.sign_figure(fig, f"{shipped.count_params():,} parameters")

# %% [markdown]
# *Figure 9. The network, for a patch of 64³ voxels. Height: side of the volume in voxels. Width: number of channels. Arrows:
# skip connections. Built by one function of 30 lines, `unet3d` in `models/brain/network.py`; read it.*
#
# ### Exercise 3: a step upwards (10 points)
#
# Write `up_step(x, skip, filters)`, one step of the decoder, from Keras layers:
#
# 1. enlarge `x` by 2 along the three axes of space (`keras.layers.Conv3DTranspose(filters, 2, strides=2)` learns how),
# 2. join it with `skip` along the channels (`keras.layers.Concatenate()`),
# 3. twice: a 3×3×3 convolution with `filters` channels that keeps the size, instance normalisation
#    (`keras.layers.GroupNormalization(groups=-1)`), and an activation.


# %% exercise="up_step"
def up_step(x, skip, filters):
    """One decoder step of the U-Net.

    Parameters
    ----------
    x : tensor (batch, x, y, z, channels)
        From the level below.
    skip : tensor (batch, 2x, 2y, 2z, channels)
        From the way down.
    filters : int

    Returns
    -------
    tensor (batch, 2x, 2y, 2z, filters)
    """
    ### BEGIN SOLUTION
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.LeakyReLU(0.01)(x)
    return x
    ### END SOLUTION


# %% check="up_step" points=10
public_tests.up_step_test(up_step)

# %% [markdown]
# With your step a whole U-Net takes a dozen lines. Here is a small one, with three of the four levels of Figure 9, that we shall train below. To find
# out what the skip connections are worth, it can be built **without** them: then each step upwards gets zeros in place of the detail, so
# that both networks have exactly the same weights.


# %%
def two_convolutions(x, filters):
    """Two 3×3×3 convolutions, each with instance normalisation and an activation."""
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.LeakyReLU(0.01)(x)
    return x


def small_unet(side, skips=True, filters=(16, 32, 64)):
    """A 3D U-Net for patches of `side`³ voxels, with the student's decoder step."""
    image = keras.Input((side, side, side, 4))
    x, detail = keras.layers.Conv3D(filters[0], 2, strides=2)(image), []  # fold
    for number in filters[:-1]:  # down
        x = two_convolutions(x, number)
        detail.append(x)
        x = keras.layers.MaxPooling3D(2)(x)
    x = two_convolutions(x, filters[-1])
    for number, skip in zip(filters[-2::-1], detail[::-1]):  # up
        x = up_step(x, skip if skips else 0 * skip, number)
    logits = keras.layers.Conv3DTranspose(4, 2, strides=2)(x)  # unfold
    return keras.Model(image, brain_network.ForegroundSoftmax()(logits))


for skips in (True, False):
    network = small_unet(32, skips)
    answer = network(np.zeros((1, 32, 32, 32, 4), np.float32))
    print(f"{'with' if skips else 'without'} skips: {network.count_params():,} weights, {tuple(answer.shape)}")

# %% [markdown]
# **Summary.** Down for context, up for precision, skips to join both; instance normalisation because batches are tiny. A network of
# convolutions takes patches of any size its levels divide, which will make whole scans fast.
#
# *Further exercise.* ★★ How far can a voxel see in the network of Figure 9? Add up the receptive field: each 3×3×3 convolution adds 2 voxels of
# its own level, and a voxel of level $n$ (1 after folding) is $2^n$ voxels wide.
#
# <details><summary>Answer</summary>
#
# Two convolutions on each of four levels down: $4 \cdot (2 + 4 + 8 + 16) = 120$ voxels, three levels up: $4 \cdot (8 + 4 + 2) = 56$, and a little
# for pooling and folding: some 190 voxels. But instance normalisation looks at the whole patch anyway, so that strictly speaking each voxel sees
# all others.
# </details>

# %% [markdown]
# ## 3.5 How good is a mask? Dice, and a loss made of it
#
# *30 minutes. The question: what should the network be rewarded for?*
#
# Accuracy is the share of voxels that are right. Let us score four masks with it: nothing at all, the true mask moved by 5 voxels,
# the true mask grown by 2 voxels, and the true mask itself.
#
# <details><summary>Predict first: how accurate is the mask that finds nothing?</summary>
#
# As accurate as there is background: see the last column of the table in 3.2.
# </details>

# %%
truth = label > 0
masks = {
    "nothing": np.zeros_like(truth),
    "moved by 5 voxels": np.roll(truth, 5, axis=0),
    "grown by 2 voxels": ndimage.binary_dilation(truth, iterations=2),
    "the truth": truth,
}
rows = []
for mask in masks.values():
    dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    rows.append([(mask == truth).mean(), dice, util.volume_ml(mask, case.spacing)])
table = pd.DataFrame(rows, index=pd.Index(masks, name="mask"), columns=["accuracy", "Dice", "ml"])
util.show_table(table, f"Accuracy and Dice of four masks of the whole tumour of {case.name}", brain.source)

# %% [markdown]
# Finding nothing looks excellent by accuracy, because background is nearly everything. The **Dice coefficient** leaves the background out:
#
# $$\mathrm{Dice}(t, p) = \frac{2\,|t \cap p|}{|t| + |p|} = \frac{2\sum_i t_i p_i + \epsilon}{\sum_i t_i + \sum_i p_i + \epsilon}$$
#
# It is 1 for a perfect mask and 0 without overlap. It is also the F1 score of the voxels. The small $\epsilon$ defines it where
# there is neither truth nor prediction: 1, for nothing was missed. (Dice, Ecology 1945.)
#
# ### Exercise 4: Dice of one class (8 points)
#
# Write `single_class_dice_coefficient` with `keras.ops`, so that it works on tensors and on NumPy arrays alike. Sum over `axis`.


# %% exercise="single_class_dice_coefficient"
def single_class_dice_coefficient(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    """Dice coefficient of one class.

    Parameters
    ----------
    y_true : tensor (x, y, z)
        1 where the class is, else 0.
    y_pred : tensor (x, y, z)
        Prediction, 0 to 1.
    axis : tuple of int
        Axes to sum over.
    epsilon : float
        Added above and below the fraction bar.

    Returns
    -------
    scalar tensor
    """
    ### BEGIN SOLUTION
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    overlap = ops.sum(y_true * y_pred, axis=axis)
    return (2 * overlap + epsilon) / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + epsilon)
    ### END SOLUTION


# %% check="single_class_dice_coefficient" points=8
public_tests.single_class_dice_coefficient_test(single_class_dice_coefficient)

# %% [markdown]
# ### Exercise 5: Dice of several classes (12 points)
#
# A batch has the shape (batch, x, y, z, classes). Sum over space only, so that each sample and each class gets its own Dice, and
# return the mean of them all.
#
# <details><summary>Hint: why not sum over everything?</summary>
# One Dice over all classes together would be ruled by the largest class. The mean of the classes' coefficients gives a small enhancing
# tumour the same say as a large edema.
# </details>


# %% exercise="dice_coefficient"
def dice_coefficient(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    """Mean Dice coefficient over samples and classes.

    Parameters
    ----------
    y_true, y_pred : tensor (batch, x, y, z, classes)
        Truth, 0 or 1, and prediction, 0 to 1.
    axis : tuple of int
        Axes to sum over before the mean is taken over the others.
    epsilon : float

    Returns
    -------
    scalar tensor
    """
    ### BEGIN SOLUTION
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    overlap = ops.sum(y_true * y_pred, axis=axis)
    each = (2 * overlap + epsilon) / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + epsilon)
    return ops.mean(each)
    ### END SOLUTION


# %% check="dice_coefficient" points=12
public_tests.dice_coefficient_test(dice_coefficient)

# %% [markdown]
# ### Exercise 6: soft Dice loss (12 points)
#
# A loss must fall when the prediction gets better, and must have a useful slope for probabilities between 0 and 1. The **soft Dice loss**
# (Milletari et al., 3DV 2016) squares the terms of the denominator, and takes 1 minus the mean:
#
# $$\mathcal{L}_{\mathrm{Dice}} = 1 - \frac{1}{N} \sum_{c} \frac{2\sum_i t_{ci}\, p_{ci} + \epsilon}{\sum_i t_{ci}^2 + \sum_i p_{ci}^2 + \epsilon}$$


# %% exercise="soft_dice_loss"
def soft_dice_loss(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    """Soft Dice loss: 1 minus the mean over samples and classes of Dice with squares in the denominator.

    Parameters
    ----------
    y_true, y_pred : tensor (batch, x, y, z, classes)
    axis : tuple of int
        Axes to sum over before the mean is taken over the others.
    epsilon : float

    Returns
    -------
    scalar tensor
    """
    ### BEGIN SOLUTION
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    overlap = ops.sum(y_true * y_pred, axis=axis)
    squares = ops.sum(ops.square(y_true), axis=axis) + ops.sum(ops.square(y_pred), axis=axis)
    return 1 - ops.mean((2 * overlap + epsilon) / (squares + epsilon))
    ### END SOLUTION


# %% check="soft_dice_loss" points=12
public_tests.soft_dice_loss_test(soft_dice_loss)

# %% [markdown]
# ### Dice and cross-entropy together
#
# Soft Dice looks at the overlap of each class as a whole: a small structure counts as much as a large one, but a few wrong voxels
# hardly matter once the rest is right, however sure the network is of them. **Cross-entropy** looks at one voxel at a time: it punishes
# each sure mistake, ever more steeply, but a small structure has few voxels and hardly matters. Their sum has both virtues, which
# is why nnU-Net, the reference method of the field (Isensee et al., Nature Methods 2021), trains with it. A worked example with a large
# and a small structure:


# %%
def dice_loss_of(truth, found):
    return float(soft_dice_loss(truth[None], found[None]))


def cross_entropy_of(truth, found):
    return -np.mean(truth * np.log(found) + (1 - truth) * np.log(1 - found))


fig = util.plot_losses({"soft Dice loss": dice_loss_of, "cross-entropy": cross_entropy_of})
util.sign_figure(fig, "worked example")

# %% [markdown]
# *Figure 10. Left: the network gets surer of the 27 voxels of the small class; soft Dice rewards it, cross-entropy hardly notices. Right: it
# gets surer of 64 voxels that are wrong; both losses grow, and cross-entropy ever more steeply, without a limit.*


# %%
def dice_and_cross_entropy(y_true, y_pred):
    """Soft Dice loss over the batch plus cross-entropy; the fourth class, background, is what is missing to 1."""
    truth = ops.concatenate([1 - ops.sum(y_true, axis=-1, keepdims=True), y_true], axis=-1)
    found = ops.concatenate([1 - ops.sum(y_pred, axis=-1, keepdims=True), y_pred], axis=-1)
    cross_entropy = -ops.mean(ops.sum(truth * ops.log(ops.clip(found, 1e-6, 1)), axis=-1))
    return ops.cast(soft_dice_loss(y_true, y_pred, axis=(0, 1, 2, 3)), cross_entropy.dtype) + cross_entropy


# %% [markdown]
# Note the `axis` above: the sums run over the batch too. With one Dice per sample, a class that is absent from a patch would
# score 0 for a single wrong voxel.
#
# **Summary.** Where nearly everything is background, accuracy says nothing. Dice measures overlap; soft Dice is the version with
# a slope; together with cross-entropy it trains well.
#
# *Further exercises.* (1) ★ Move the mask in the first table by 1, 2, 3 … voxels, for the largest and the smallest class. Why does Dice punish
# small structures more? (2) ★ What is Dice when both masks are empty, and what if one voxel is then predicted?
#
# <details><summary>Answers</summary>
#
# (1) A shift costs voxels in proportion to the surface, and a small structure has more surface for its volume. (2) 1, by $\epsilon$; and nearly 0
# after a single voxel. So Dice of an empty truth says next to nothing, and section 3.9 leaves it out.
# </details>

# %% [markdown]
# ## 3.6 Watch it learn
#
# *15 minutes. The question: what does a network learn first, and what are skip connections for?*
#
# Patients are split before anything is learned: some train, some tell us during training how it goes, and some, the **test** patients,
# stay unseen until the end.

# %%
training_cases, validation_cases, test_cases, warning = split_by_patient(
    chosen, *((1, 1) if QUICK else (4, 2)), simulated=brain.source == "simulated"
)
print(f"{len(training_cases)} scans to train, {len(validation_cases)} to validate, {len(test_cases)} to test")
if warning:
    print(warning)


def load(patient):
    """Standardised image and label, cropped to the brain, and the box that was cut."""
    image, label = patient.image(), patient.label()
    box = decathlon.brain_box(image)
    return standardize(image[box]).astype(np.float32), label[box], box


scans = {patient.name: load(patient) for patient in util.progress(chosen, description="reading scans")}


def draw_patches(patients, count, side, rng, mirror=True):
    """X and y of random patches, mirrored left to right half of the time: a head has no preferred side."""
    pairs = []
    while len(pairs) < count:
        image, label, _ = scans[patients[rng.integers(len(patients))].name]
        pair = get_sub_volume(image, label, side, side, side, 4, 100, 0.97, rng=rng)
        if pair is not None:  # a patient without enough tumour is passed over
            turn = -1 if mirror and rng.random() < 0.5 else 1
            pairs.append([part[::turn] for part in pair])
    return tuple(np.stack(parts).astype(np.float32) for parts in zip(*pairs))


# %% [markdown]
# Both small networks of section 3.4 get the same patches in the same order. After 0, 25, 50, 100 and 150 steps we look: at one slice, and at
# the Dice of each class on a few patches of the validation patients. That Dice is computed **once for each class over all these patches**. One
# Dice for each patch, averaged, would give 0 to every patch that lacks the class as soon as one voxel is called so.
#
# <details><summary>Predict first: what will the two networks have learned after 25 steps, and where will the one without skips fail in the end?</summary>
#
# Most often first where the tumour is, roughly, then its classes, the large ones before the small. Without skips all detail must pass through the
# coarsest level, cells of 8 voxels: blobs at best, with borders that are too smooth, and in so few steps perhaps nothing.
# </details>


# %%
def one_hot(label):
    """Label map (…) of 0 to 3 to one-hot code (…, 3) without the background."""
    return label[..., None] == np.arange(1, 4)


def class_dice(y, found):
    """Dice of each class over all patches together: y one-hot (patch, x, y, z, 3), found a label map (patch, x, y, z)."""
    found = np.float32(one_hot(found))
    return [float(single_class_dice_coefficient(y[..., k], found[..., k], axis=(0, 1, 2, 3))) for k in range(3)]


def label_maps(network, X):
    """What a network says about patches, one at a time."""
    return np.concatenate([brain_predict.label_map(np.asarray(network.predict_on_batch(x[None]))) for x in X])


def train(network, looks, seed=0):
    """Train for as many steps as the last look; returns the losses, the Dice of the classes and a label map at each look."""
    rate = keras.optimizers.schedules.CosineDecay(0.003, looks[-1])  # large steps first, small ones at the end
    network.compile(keras.optimizers.Adam(rate), loss=dice_and_cross_entropy)
    network.optimizer.build(network.trainable_variables)  # else TensorFlow traces the first step twice
    rng = np.random.default_rng(seed)
    losses, dice, seen = [], {}, {}
    for step in util.progress(range(looks[-1] + 1), description="training", unit="step"):
        if step in looks:
            found = label_maps(network, check_X)
            dice[step], seen[step] = class_dice(check_y, found), found[look_at]
        if step < looks[-1]:
            losses.append(float(network.train_on_batch(*draw_patches(training_cases, 2, side, rng))))
    return losses, dice, seen


side = min(32 if QUICK else 48, *(min(scan.shape[:3]) // 16 * 16 for scan, _, _ in scans.values()))
looks = (0, 2, 4) if QUICK else (0, 25, 50, 100, 150)
check_X, check_y = draw_patches(validation_cases, 6, side, np.random.default_rng(0), mirror=False)
look_at = int(np.argmax([min(patch[..., k].sum() for k in range(3)) for patch in check_y]))  # a patch that has all classes
keras.utils.set_random_seed(0)  # decides on the first weights
students = {"with skips": small_unet(side), "without skips": small_unet(side, skips=False)}
started = time.perf_counter()
learned = {name: train(network, looks) for name, network in students.items()}
print(f"{len(students) * looks[-1]} steps in {time.perf_counter() - started:.0f} s")

# %%
expert = (check_y[look_at] * [1, 2, 3]).sum(axis=-1).astype(int)
fig = util.show_learning(check_X[look_at][..., 0], expert, {name: seen for name, (_, _, seen) in learned.items()})
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 11. One slice of a validation patch as the two networks see it after so many steps, and the expert's mask.*

# %%
fig = util.plot_learning({name: (losses, dice) for name, (losses, dice, _) in learned.items()})
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 12. Left: the loss of the training patches, averaged over ten steps. The others: Dice of each class on the validation patches. The patches are few, so
# that the curves are bumpy, and all are still on their way: a minute is a demonstration, not a training. It is one start of each, too: change the seed
# and look again.*
#
# **Summary.** Split by patient first. Watch the training on patients that are not trained on, and look at pictures, not only at curves. Skip connections
# bring the detail to the borders, and shorten the way of the gradient to the first layers: both speed learning up. A minute on two processor cores is enough to see a network learn, not enough for a network to use.
#
# *Further exercises.* (1) ★ Train with `soft_dice_loss` alone, and with cross-entropy alone. (2) ★ Set `mirror=False`. (3) ★★ Ten times more steps: does
# the network without skips catch up?
#
# <details><summary>Answers</summary>
#
# (1) `network.compile(…, loss=soft_dice_loss)`. Expect cross-entropy alone to leave the small classes to the end, as Figure 10 suggests. One run is
# one draw: repeat it with other seeds before you say which is better. (2) Mirroring doubles the patients, so expect it to pay when the same patients are
# seen many times, not here. (3) Expect it to get nearer, but what a voxel needs to know about its own place has to fit into a cell of 8 voxels.
# </details>

# %% [markdown]
# ## 3.7 The shipped weights, patch by patch
#
# *15 minutes. The question: what does longer training bring, class by class?*
#
# `models/` holds weights of the network of Figure 9 that were trained longer, by `models/brain/train.py`, on **other simulated patients** and on
# real ones of BraTS 2018 (`models/brain/trained_on.txt`; none of them is among the test patients here, unless a line above says so). While it was trained, each level on
# the way up also had to give an answer of its own at its coarse resolution (**deep supervision**), so that the deep levels learn directly; these
# extra answers are thrown away afterwards. The file is checked before use (complete? right network?).

# %%
load_weights(shipped, brain_network.BRAIN_WEIGHTS)

# %% [markdown]
# ### Exercise 7: sensitivity and specificity of a class (12 points)
#
# Dice is one number; it hides whether a mask is too small or too large. **Sensitivity** is the share of the class's voxels that were
# found; **specificity** is the share of all other voxels that were left alone. Write `compute_class_sens_spec` for arrays of zeros and
# ones with the classes on the last axis. A share of nothing is `nan`.
#
# <details><summary>Hint</summary>
# Take class <code>class_num</code> with <code>pred[..., class_num]</code>, turn both into booleans and count true and false positives and
# negatives. <code>np.nan</code> when there is nothing to divide by.
# </details>


# %% exercise="compute_class_sens_spec"
def compute_class_sens_spec(pred, label, class_num):
    """Sensitivity and specificity of one class.

    Parameters
    ----------
    pred, label : array of 0 and 1 (…, classes)
    class_num : int
        Index of the class on the last axis.

    Returns
    -------
    (sensitivity, specificity) : floats, nan where undefined
    """
    ### BEGIN SOLUTION
    found, true = np.asarray(pred)[..., class_num] > 0.5, np.asarray(label)[..., class_num] > 0.5
    positives, negatives = true.sum(), (~true).sum()
    sensitivity = float((found & true).sum() / positives) if positives else np.nan
    specificity = float((~found & ~true).sum() / negatives) if negatives else np.nan
    return sensitivity, specificity
    ### END SOLUTION


# %% check="compute_class_sens_spec" points=12
public_tests.compute_class_sens_spec_test(compute_class_sens_spec)

# %%
X, y = draw_patches(test_cases, 4 if QUICK else 12, side, np.random.default_rng(1), mirror=False)
networks = {"trained here": students["with skips"], "shipped": shipped}
found = {name: label_maps(network, X) for name, network in networks.items()}
rows = []
for number, class_name in enumerate(util.BRAIN_CLASSES):
    for name in networks:
        sens_spec = compute_class_sens_spec(one_hot(found[name]), y, number)
        rows.append([class_name, name, *sens_spec, class_dice(y, found[name])[number]])
table = pd.DataFrame(rows, columns=["class", "network", "sensitivity", "specificity", "Dice"])
caption = f"All voxels of {len(X)} patches of the test patients"
util.show_table(table.set_index(["class", "network"]), caption, brain.source)

# %% [markdown]
# **Summary.** Sensitivity and specificity say in which direction a mask is wrong. Patches are drawn where there is tumour, so the numbers of
# this section are too friendly: nothing here asks what the network does in the healthy rest of the head.
#
# *Further exercise.* ★ Why is specificity so high for every class, and what would it be for the mask "nothing"?
#
# <details><summary>Answer</summary>
#
# Nearly all voxels are not of the class, even in a patch, and most of them are easy. "Nothing" has specificity 1 and sensitivity 0.
# </details>

# %% [markdown]
# ## 3.8 Whole scans
#
# *20 minutes. The question: what does a network do in the rest of the head?*
#
# A patient has a head, not a patch. The network takes any box, but a whole scan does not fit the memory of most machines, so a window
# **slides** over the brain and the results are put together. Near its border a window sees only half the surroundings and is less reliable.
# So windows overlap by half, and each voxel takes the weighted mean of all windows that saw it: the **Gaussian weights** are high in the middle
# of a window and low at its border. Let us see whether that matters, on a slab of one validation patient.
#
# <details><summary>Predict first: how much will Dice gain from overlap and weights?</summary>
#
# Often next to nothing: seams are thin, and Dice counts volumes. What changes is the picture: look at the straight lines in Figure 13.
# </details>


# %%
def dice_of(found, truth):
    """Dice of two masks (x, y, z); nan where the truth is empty: there is nothing to overlap with."""
    if not truth.any():
        return np.nan
    return float(single_class_dice_coefficient(np.float32(truth), np.float32(found)))


patient = validation_cases[0]
scan, expert, _ = scans[patient.name]
cut = util.largest_slice(expert > 0)[2]
window = min(32 if QUICK else 64, min(scan.shape[:3]) // 16 * 16)
low = int(np.clip(cut - window // 2, 0, scan.shape[2] - window))
slab, slab_expert = scan[:, :, low : low + window], expert[:, :, low : low + window]
inside = slab[decathlon.brain_box(slab)].shape[:3]
ways = {
    "side by side": {"overlap": 0, "gaussian": False},
    "half overlap, equal weights": {"overlap": 0.5, "gaussian": False},
    "half overlap, Gaussian weights": {"overlap": 0.5, "gaussian": True},
}
shipped.predict_on_batch(slab[None, :window, :window])  # warm-up: the first call also compiles
results, rows = {}, []
for name, way in ways.items():
    started = time.perf_counter()
    results[name] = brain_predict.predict_scan(shipped, slab, (window,) * 3, **way)
    seconds = time.perf_counter() - started
    corners = brain_predict.tile_corners(inside, (window,) * 3, way["overlap"])
    seen = np.zeros(inside)
    for corner in corners:
        seen[tuple(slice(start, start + window) for start in corner)] += 1
    mask = brain_predict.label_map(results[name])
    rows.append([name, len(corners), f"{(seen > 1).mean():.0%}", dice_of(mask > 0, slab_expert > 0), seconds])
columns = ["windows", "number", "voxels seen more than once", "whole-tumour Dice", "seconds"]
table = pd.DataFrame(rows, columns=columns).set_index("windows")
caption = f"Ways to slide a window of {window}³ voxels over a slab of {patient.name}"
util.show_table(table, caption, brain.source)

# %%
fig, axes = plt.subplots(1, len(results) + 1, figsize=(8.8, 2.9))
for axis, (name, found) in zip(axes, results.items()):
    util.paint_slice(axis, found.sum(axis=-1) + 1e-6, at=cut - low, letters=False)
    axis.set_title(name.replace("half overlap, ", ""))
first, *_, last = results.values()
util.paint_slice(axes[-1], np.abs(first.sum(axis=-1) - last.sum(axis=-1)) + 1e-6, at=cut - low, letters=False)
axes[-1].set_title("|first − last|")
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 13. Probability of tumour in one axial slice for each way to slide the window, and where the first and the last differ (its own
# scale). What runs along a straight line is a seam: the border of a window, not of anything in the head.*
#
# Windows are **spaced evenly** over the brain, so that the last one does not stick out: even those side by side share some voxels, as the table
# says. For one patient Dice may gain nothing, or lose: it is chance whether a seam runs through the tumour. What the weights remove is the seams, where a mask would depend on where the windows
# happen to lie.
#
# ### The small network leaves its patches
#
# In section 3.6 the small network had only ever seen patches with tumour in them. Now it gets a whole head.
#
# <details><summary>Predict first: what will it do in the healthy part?</summary>
#
# Call something tumour, in many small places: nothing has ever taught it what a head looks like elsewhere.
# </details>

# %%
tile = (96, 96, 96)


def segment(patient):
    """Label map of a patient as the shipped network sees it; a speck of enhancing tumour counts as none."""
    found = brain_predict.label_map(brain_predict.predict_scan(shipped, scans[patient.name][0], tile))
    return brain_predict.clean(found, one_piece=False, spacing=patient.spacing)


validated = {case.name: segment(case) for case in util.progress(validation_cases, description="segmenting validation scans")}
whole_head = {
    "trained here": brain_predict.label_map(brain_predict.predict_scan(students["with skips"], scan, (side,) * 3, 0.25)),
    "shipped": validated[patient.name],
}


def count_pieces(found, expert):
    """Connected pieces of tumour in a label map; how many of them touch no tumour of the expert's, and their millilitres."""
    pieces, count = ndimage.label(found > 0)
    false = np.setdiff1d(np.arange(1, count + 1), pieces[expert > 0])
    return count, len(false), util.volume_ml(np.isin(pieces, false), patient.spacing)


rows = [
    [name, *count_pieces(found, expert), dice_of(found > 0, expert > 0), util.hausdorff95(found > 0, expert > 0, patient.spacing)]
    for name, found in whole_head.items()
]
columns = ["network", "pieces", "false islands", "false islands, ml", "whole-tumour Dice", "HD95, mm"]
table = pd.DataFrame(rows, columns=columns).set_index("network")
util.show_table(table, f"Two networks on the whole scan of {patient.name}", brain.source)

# %% picture=[0.25, 0, 1, 0.92]
islands = (whole_head["trained here"] > 0) & ~ndimage.binary_dilation(expert > 0, iterations=5)
area = (expert > 0).sum(axis=(0, 1))
at = int(np.where(area > area.max() / 2, islands.sum(axis=(0, 1)), -1).argmax())
fig = util.show_masks(np.where(scan[..., 0] == 0, -3, scan[..., 0]), {"expert": expert} | whole_head, at)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 14. Of the slices that hold much of the tumour, the one with most false tumour far away from it: the expert's mask, the network trained here, the shipped one.*
#
# No patch of section 3.7 could show this. A network that is to be used on heads must be tested on heads, and must have seen healthy tissue in training, as
# the shipped one has. That makes islands fewer; whether it makes them vanish, the table says.

# %% [markdown]
# ### Regions: what the clinic asks
#
# Surgeons and trials do not ask for "class 2". They ask for three nested regions, which is also how BraTS scores: the **whole tumour** (WT:
# classes 1, 2 and 3), the **tumour core** (TC: 2 and 3, what a surgeon would remove) and the **enhancing tumour** (ET: 3).
#
# ### Exercise 8: regions (8 points)
#
# Write `get_regions`: from an integer label map to a boolean array with WT, TC and ET on a new last axis.


# %% exercise="get_regions"
def get_regions(label):
    """Nested regions of a label map.

    Parameters
    ----------
    label : array of int (…), 0 background, 1 edema, 2 non-enhancing tumour, 3 enhancing tumour

    Returns
    -------
    array of bool (…, 3): whole tumour, tumour core, enhancing tumour
    """
    ### BEGIN SOLUTION
    label = np.asarray(label)
    return np.stack([np.isin(label, classes) for classes in ([1, 2, 3], [2, 3], [3])], axis=-1)
    ### END SOLUTION


# %% check="get_regions" points=8
public_tests.get_regions_test(get_regions)

# %% [markdown]
# **Summary.** Whole scans are segmented by overlapping windows with Gaussian weights, which takes the seams out of the mask. Patches with tumour in them do not show
# what a network does elsewhere. The clinic asks for nested regions.
#
# *Further exercises.* (1) ★★ Move the scan by one voxel in one direction and segment it again: does the mask move along? (2) ★★ Segment the
# scan and its mirror image, mirror the second result back, and average the two (`predict_scan(…, mirror=(0,))` does the same). Is it better?
# What does it cost?
#
# <details><summary>Answers</summary>
#
# (1) Nearly. Folding and pooling work on a fixed grid of cells, so a shift by one voxel changes what falls into which cell; a shift by 16 voxels would
# move the mask along, but for the windows. (2) Twice the time, for what the validation patients say it gains: compare their mean Dice with and without.
# </details>

# %% [markdown]
# ## 3.9 Metrics that bite
#
# *25 minutes. The question: which error does which number not see?*
#
# Next to Dice, segmentation papers report distances between surfaces:
#
# * the **Hausdorff distance** (HD): the farthest that any point of one surface lies from the other, in millimetres. One voxel decides;
# * **HD95**: the 95th percentile instead of the farthest. It ignores up to 5 % of the surface;
# * **surface Dice at 2 mm**: the share of both surfaces that lies within 2 mm of the other;
# * **lesion-wise Dice**: each connected piece gets a Dice of its own, a piece that was missed or invented gets 0, and all count alike. BraTS has
#   scored like this since 2023.
#
# And none of them says how many of the **separate pieces** were found at all. That number you write.
#
# ### Exercise 9: recall of lesions (10 points)
#
# Write `lesion_recall`: the share of the connected pieces of the expert's mask that share at least one voxel with the network's. Pieces hang
# together by faces, as `scipy.ndimage.label` has it by default; without any piece the result is `nan`.
#
# <details><summary>Hint</summary>
#
# `pieces, count = ndimage.label(label)` numbers the pieces from 1. Which numbers occur in `pieces` where `pred` is set?
# </details>


# %% exercise="lesion_recall"
def lesion_recall(pred, label):
    """Share of the connected pieces of a mask that were touched.

    Parameters
    ----------
    pred, label : array of 0 and 1, (x, y, z)
        Found by the network; drawn by the expert.

    Returns
    -------
    float in [0, 1], nan when `label` is empty
    """
    ### BEGIN SOLUTION
    pieces, count = ndimage.label(np.asarray(label) > 0)
    touched = np.unique(pieces[(np.asarray(pred) > 0) & (pieces > 0)])
    return len(touched) / count if count else float("nan")
    ### END SOLUTION


# %% check="lesion_recall" points=10
public_tests.lesion_recall_test(lesion_recall)

# %% [markdown]
# Six toy masks, each with one error that happens in practice:


# %%
def ball(centre, radius):
    """Mask of a ball in a box of 64 × 64 × 40 voxels of 1 mm."""
    return sum((axis - c) ** 2 for axis, c in zip(np.indices((64, 64, 40)), centre)) <= radius**2


tumour, second = ball((24, 32, 20), 13), ball((52, 46, 20), 2)
toys = {  # prediction, truth
    "shift by 3 mm": (np.roll(tumour, 3, axis=0), tumour),
    "small island": (tumour | second, tumour),
    "lesion missed": (tumour, tumour | second),
    "empty truth": (second, np.zeros_like(tumour)),
    "thin shell": (ndimage.binary_dilation(tumour, iterations=2), tumour),
    "hole": (tumour & ~ball((24, 32, 20), 6), tumour),
}
fig = util.show_toys(toys)
util.sign_figure(fig, "worked example")

# %% [markdown]
# *Figure 15. The middle slice of six masks: the truth in grey, the prediction as a line.*
#
# <details><summary>Predict first: which of these errors leave Dice and HD95 nearly perfect? Which one does surface Dice at 2 mm not see at all?</summary>
#
# The island and the missed lesion: both are too small for Dice, and their surface is less than 5 % of the whole. The thin shell: all of it lies
# within 2 mm, however large its volume. The table says it in numbers.
# </details>

# %%
rows = []
for found, truth in toys.values():
    hausdorff = [util.hausdorff95(found, truth, percentile=percentile) for percentile in (100, 95)]
    lesions = [util.lesion_dice(found, truth), lesion_recall(found, truth)]
    rows.append([dice_of(found, truth), *hausdorff, util.surface_dice(found, truth, tolerance=2), *lesions])
    rows[-1] += [util.volume_ml(found), util.volume_ml(truth)]
columns = ["Dice", "HD, mm", "HD95, mm", "surface Dice, 2 mm", "lesion-wise Dice", "lesions found", "prediction, ml", "truth, ml"]
table = pd.DataFrame(rows, index=pd.Index(toys, name="error"), columns=columns)
util.show_table(table, "Six errors, six numbers, and the volumes", "worked example", precision=2)

# %% [markdown]
# Read the columns downwards: each number is blind to something.
#
# * **The island and the missed lesion** look the same to Dice, HD95 and lesion-wise Dice: only HD sees that something lies far away, and only the
#   share of lesions found tells one from the other. For a patient a second tumour that was missed is the worst of the six.
# * **The thin shell** is within 2 mm everywhere and adds a lot of volume: a small tumour is mostly shell. Whoever needs millilitres must look at millilitres.
# * **The hole** costs Dice little. If the hole is the necrosis that a radiotherapist spares, it is not little.
# * **Empty truth**: no overlap, no distance, no lesion. A Dice of 0 (or of 1, by $\epsilon$) would be an artefact, and in a mean of a few patients a large one. Such a
#   patient is **reported apart**, by the false volume, and does not enter the mean; the table says over how many patients each mean runs.
#
# **Summary.** No number sees everything. Report overlap, a distance, lesions and volume; know for each what it does not see; and count empty cases apart.
#
# *Further exercises.* (1) ★ Which of the six would HD95 notice if the second lesion had a radius of 4 voxels? (2) ★★ Shift the large ball by 2 mm in place of 3. Why does
# surface Dice jump to 1, and what does that say about the choice of its tolerance?
#
# <details><summary>Answers</summary>
#
# (1) Then its surface is more than 5 % of the whole, and HD95 leaps from 0 to the distance of the lesion: it is a step, not a scale. (2) Everything is then within the
# tolerance. It should be what two experts differ by, and has to be fixed before the results are known.
# </details>

# %% [markdown]
# ## 3.10 The report
#
# *15 minutes. The question: how good is it on patients, and on which of them not?*


# %%
def without_specks(mask, spacing, least_ml=0.05):
    """A mask (x, y, z) without its pieces of less than `least_ml`, which nobody would call a lesion."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel()) * np.prod(spacing) / 1000
    return mask & (sizes >= least_ml)[pieces]


def report(found, expert, spacing):
    """Table of one scan: a row for each class and region, from two label maps (x, y, z)."""
    names = [("class", name) for name in util.BRAIN_CLASSES] + [("region", name) for name in util.BRAIN_REGIONS]
    names = pd.MultiIndex.from_tuples(names, names=["", "structure"])
    ours = np.concatenate([one_hot(found), get_regions(found)], axis=-1)
    theirs = np.concatenate([one_hot(expert), get_regions(expert)], axis=-1)
    rows = []
    for number in range(len(names)):
        p, t = ours[..., number], theirs[..., number]
        row = [*compute_class_sens_spec(ours, theirs, number), dice_of(p, t), util.hausdorff95(p, t, spacing)]
        row += [util.surface_dice(p, t, spacing), lesion_recall(p, without_specks(t, spacing))]
        rows.append([*row, util.volume_ml(p, spacing), util.volume_ml(t, spacing)])
    columns = ["sensitivity", "specificity", "Dice", "HD95, mm", "surface Dice, 2 mm", "lesions found", "network, ml", "expert, ml"]
    return pd.DataFrame(rows, names, columns)


# %% [markdown]
# ### One piece or many? A choice, so not one for the test patients
#
# Networks like to see a little tumour here and there: in a vessel, in an old scar of the white matter. Gliomas mostly grow in one piece. So
# we could keep only the **largest connected piece**. That helps where the rest is false, and harms a patient with two tumours. Whether to do
# it is a *choice*, and choices are made on the validation patients. Whoever makes them on the test patients reports how well he chose.


# %%
def keep_largest_piece(found):
    """Label map (x, y, z) without all that is not connected to the largest piece of tumour."""
    pieces, count = ndimage.label(found > 0)
    if count < 2:
        return found
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    return np.where(pieces == largest, found, 0).astype(np.uint8)


rows = []
for patient in validation_cases:
    expert, found = scans[patient.name][1], validated[patient.name]
    for way, mask in (("all pieces", found), ("largest piece", keep_largest_piece(found))):
        row = [dice_of(mask > 0, expert > 0), util.hausdorff95(mask > 0, expert > 0, patient.spacing)]
        rows.append([patient.name, way, *row, lesion_recall(mask > 0, expert > 0)])
columns = ["patient", "", "whole-tumour Dice", "HD95, mm", "lesions found"]
table = pd.DataFrame(rows, columns=columns).set_index(["patient", ""])
util.show_table(table, "Validation patients", brain.source)
by_way = table["whole-tumour Dice"].groupby(level="").mean().round(3)  # what the table shows
keep_one = bool(by_way["largest piece"] > by_way["all pieces"])  # a tie changes nothing
print("on the test patients we keep", "the largest piece" if keep_one else "all pieces")

# %% [markdown]
# Now the test patients, once. (Lesions are pieces of at least 0.05 ml: masks, of experts too, have specks of a few voxels.)

# %%
found_masks, reports = {}, {}
for patient in util.progress(test_cases, description="segmenting test scans"):
    expert, found = scans[patient.name][1], segment(patient)
    found_masks[patient.name] = keep_largest_piece(found) if keep_one else found
    reports[patient.name] = report(found_masks[patient.name], expert, patient.spacing)
everything = pd.concat(reports, names=["patient"])
empty = everything["expert, ml"] == 0
groups = everything[~empty].groupby(level=["", "structure"], sort=False)
mean = groups.mean()
mean.insert(0, "n", groups.size())
mean.insert(1, "missed entirely", groups["network, ml"].agg(lambda volumes: (volumes == 0).sum()))
caption = f"Mean over those n of {len(test_cases)} test patients who have the structure; all voxels of the brain's box"
util.show_table(mean, caption, brain.source)
if empty.any():
    apart = everything.loc[empty, ["specificity", "network, ml"]].rename(columns={"network, ml": "false volume, ml"})
    util.show_table(apart, "Reported apart: the expert drew none", brain.source)
else:
    print("No structure is missing in any test patient: nothing has to be reported apart.")

# %%
by_patient = everything.loc[(slice(None), "region"), ["Dice", "HD95, mm"]].unstack("structure")
by_patient.columns = [f"{region.split('(')[1][:2]} {metric}" for metric, region in by_patient.columns]
by_patient = by_patient.droplevel("").sort_index()
util.show_table(by_patient, "Each test patient: a mean hides the one for whom it went wrong", brain.source)

# %% [markdown]
# **Summary.** Choices are made on validation patients, and a tie changes nothing. Report regions and classes, overlap *and* distance, the
# mean *and* each patient, and n behind each mean. Dice says nothing, and HD95 is not defined, where the expert drew nothing; such a patient is
# reported apart, with the false volume. Where the network drew nothing, HD95 is not defined either, and its mean is too friendly: hence *missed entirely*.
#
# *Further exercise.* ★★ Put the Dice of the empty cases back into the mean, as 0 and as 1. How far does the mean of the enhancing tumour move?
#
# <details><summary>Answer</summary>
#
# By (0 − mean)/(n + 1) or (1 − mean)/(n + 1) for each such patient: with a handful of patients, by more than most improvements that papers report. The
# `epsilon` of `dice_coefficient` decides which of the two it is, and few papers say.
# </details>

# %% [markdown]
# ## 3.11 Millilitres, and where it fails
#
# *15 minutes. The question: by how much is the volume wrong, and what do the errors look like?*
#
# Trials judge response by the RANO criteria: two diameters of the enhancing tumour, steroids, and how the patient is; volume is an option
# there, and what a mask gives for free. A mask can be right in volume and wrong in place, so this plot complements Dice, it does not replace it.
# Plotting one volume against the other always looks like agreement. The **Bland–Altman plot** shows what matters: the difference, against the mean of both.

# %%
fig = util.plot_agreement(everything.xs("region", level=""))
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 16. Volume by the network minus volume by the expert, for each test patient. Grey: no difference. Blue: the mean difference, and dashed the limits within
# which 95 % of differences would lie (mean ± 1.96 standard deviations; from a handful of patients they are a rough guess). Hollow: the expert drew none,
# so that the whole volume is false; such points stay in the plot.*
#
# Now the patient with the lowest whole-tumour Dice, at the slice with most wrong voxels. Do not look at the mean case; look at this one.

# %%
whole_tumour = ("region", util.BRAIN_REGIONS[0])
worst = min(test_cases, key=lambda patient: reports[patient.name].loc[whole_tumour, "Dice"])
expert, frame = scans[worst.name][1:]
found, image = found_masks[worst.name], worst.image()
missed, false_alarm = (expert > 0) & (found == 0), (expert == 0) & (found > 0)
errors = np.select([missed, false_alarm, expert != found], [1, 2, 3], 0)
cut = int((errors > 0).sum(axis=(0, 1)).argmax())
fig = util.show_errors(image[frame], expert, found, errors, cut)
util.sign_figure(fig, f"{worst.name}, slice {cut + frame[2].start}, {brain.source}")

# %% [markdown]
# *Figure 17. The slice with most wrong voxels of the worst test patient: what the network saw, what the expert and the network drew, and the errors:
# missed voxels are filled, false alarms outlined, those of a wrong class hatched.*

# %%
surface = (expert > 0) ^ ndimage.binary_erosion(expert > 0)
depth = ndimage.distance_transform_edt(~surface, sampling=worst.spacing)
rows = []
for number in (1, 2, 3):
    far = pd.Series(depth[errors == number])  # the mean of none is nan
    rows.append([len(far), (far <= 2).mean(), (far > 10).mean()])
columns = ["voxels", "share within 2 mm of the surface", "share beyond 10 mm"]
table = pd.DataFrame(rows, index=pd.Index(util.ERRORS, name="error"), columns=columns)
util.show_table(table, f"Errors of {worst.name} and the surface of the expert's whole tumour", brain.source)
shell, total = (util.volume_ml(mask, worst.spacing) for mask in ((missed | false_alarm) & (depth <= 2), expert > 0))
print(f"Missed or false within 2 mm of the surface, a thin shell: {shell:.0f} ml, of a tumour of {total:.0f} ml.")

# %% [markdown]
# Errors along the surface are often a matter of taste: two experts would differ there too. But a thin shell need not be a small volume, as the last line
# says. Errors far from it are real: a missed part, or a vessel or a bright patch of healthy tissue taken for tumour.
#
# **Summary.** Compare volumes as well as overlap; look at the worst patient, not the average one; tell errors at the border from errors of judgement.
#
# *Further exercise.* ★★ Which sequence misled the network in Figure 17? Set one channel of the standardised scan to 0, segment again, and compare.
#
# <details><summary>Answer</summary>
#
# `scan = scans[worst.name][0].copy(); scan[..., 2] = 0` and then as in 3.10. If the false alarms vanish with a channel, it was that one. But a scan without a
# sequence is unlike anything in training: new errors are no surprise.
# </details>

# %% [markdown]
# ## 3.12 Save the mask, so that it opens on the scan
#
# *10 minutes. The question: will it lie on the tumour in somebody else's viewer?*
#
# A mask is of use when it can be opened in a viewer, on top of the scan, at the right place. That takes the **affine**, and the right
# data type: `uint8` for labels. Never for probabilities: 0.97 becomes 0.

# %%
folder = COURSE / "build" / "segmentation"
folder.mkdir(parents=True, exist_ok=True)
path = folder / f"{worst.name}_prediction.nii.gz"
whole = np.zeros(worst.shape, np.uint8)
whole[frame] = found  # back from the brain's box into the scan
to_save = nib.Nifti1Image(whole, worst.affine)
to_save.header.set_xyzt_units("mm")
to_save.header["descrip"] = b"0 background 1 edema 2 non-enhancing 3 enhancing"
nib.save(to_save, path)

back = nib.load(path)
same = np.array_equal(np.asanyarray(back.dataobj), whole) and np.allclose(back.affine, worst.affine)
print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB, {back.get_data_dtype()}; same voxels and affine: {same}")
probability = last.max()
print(f"largest probability {probability:.3f}, as uint8: {np.uint8(probability)}")

# %% [markdown]
# nilearn draws both files by their affines, not by their indices. If the mask sits on the tumour here, it will sit there in every viewer.

# %%
background = nib.Nifti1Image(image[..., 0].astype(np.float32), worst.affine)
centre = nib.affines.apply_affine(worst.affine, util.largest_slice(whole > 0))
fig = plt.figure(figsize=(7, 2.6), layout="none")
style = {"cmap": util.label_colours(), "alpha": 0.6, "vmin": 1, "vmax": 3, "black_bg": True, "colorbar": False}
plotting.plot_roi(back, bg_img=background, cut_coords=centre, figure=fig, **style)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 18. The saved file on top of the scan, in millimetres, as nilearn draws it (here left is left).*
#
# Open it in a viewer too. **ITK-SNAP**: *File → Open Main Image* (the scan), then *Segmentation → Open Segmentation* (the saved file), or
# `itksnap -g scan.nii.gz -s prediction.nii.gz`. **3D Slicer**: drop both files in, and load the second as a *Segmentation*.
#
# **Summary.** Labels as `uint8`, probabilities as floats, always with the affine of the scan they belong to, and read back once before you
# send it to anybody.
#
# *Further exercise.* ★ Save the mask with `np.eye(4)` in place of the affine and draw Figure 18 again.
#
# <details><summary>Answer</summary>
#
# The mask lies beside the head, or on a wrong part of it: by the offset of the affine, as the table of section 3.1 shows it. The voxels are all right.
# </details>

# %% [markdown]
# ## 3.13 What these numbers do not prove
#
# *5 minutes. The question: what would you want to know before a patient is treated by such a mask?*
#
# * **Simulated patients are not patients.** The simulator knows nothing about surgery, hemorrhage, motion, metal or a tumour that looks like a stroke.
#   A network that was trained and tested on simulations shows that the method works, nothing more. Point `DATA_DIR` at real scans and compare.
# * **Few patients.** A mean over a handful of test patients has a wide uncertainty; one more difficult case would move it.
# * **One expert is not the truth.** When several experts outlined the same tumours for BraTS, they agreed with each other with Dice
#   scores of about 0.74 to 0.85, depending on the region (Menze et al., IEEE TMI 2015). A network far above that has learned one expert's hand.
# * **Everything was prepared.** Skulls removed, sequences aligned, voxels of 1 mm, all four sequences present, glioma known. The step from a
#   scanner's DICOM to such a file is software too, and it fails as well.
# * **Dice is not benefit.** Nobody is treated by a Dice score. Whether a plan, an operation or a trial gets better is a question for a clinical study.
#
# **Summary.** Read a segmentation result with five questions: which patients, how many, who drew the truth, what was prepared, and who benefits?

# %%
public_tests.summary()

# %%
regions_mean = everything.xs("region", level="").groupby(level="structure").mean()
numbers = {}
for region, name in zip(util.BRAIN_REGIONS, ("whole-tumour", "tumour-core", "enhancing-tumour")):
    numbers[f"{name} Dice"] = regions_mean.loc[region, "Dice"]
numbers["whole-tumour HD95, mm"] = regions_mean.loc[util.BRAIN_REGIONS[0], "HD95, mm"]
util.headline(numbers, brain.source)
