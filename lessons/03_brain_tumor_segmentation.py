# %% [markdown]
# # 3 · Brain tumour segmentation on MRI
#
# A scan of the head shows a tumour. How large is it, where does it end, which part of it is active? Surgeons, radiation
# oncologists and trials need these answers voxel by voxel, and drawing them by hand takes an expert an hour per patient.
# Here you build a network that does it in seconds, and then find out how far it can be trusted.
#
# **You will learn to**
#
# * read a magnetic resonance (MR) scan: its four sequences, its header, where a voxel lies in the head;
# * look at a volume properly: in three planes, as a film, with the expert's mask on top;
# * cut patches out of scans that are too large for a network, and make intensities comparable that have no unit;
# * build and train a 3D U-Net with a loss that a sea of background does not fool;
# * segment a whole scan by a sliding window, and judge the result per class and per region: sensitivity, specificity,
#   Dice, Hausdorff distance, millilitres;
# * look at the failures, and save a mask so that a clinical viewer lays it exactly on the scan.
#
# **Time:** about two hours with the exercises; three minutes to run. **Points:** 100.
# **You should know** Python, NumPy and what a convolutional network is. Notebooks 1 and 2 are not required.
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
from models.brain import known_patients
from models.brain import network as brain_network
from models.brain import predict as brain_predict
from models.weights import load_weights

assert keras.__version__ >= "3", "This course needs Keras 3: pip install -r requirements.txt"
keras.utils.set_random_seed(3)
rng = np.random.default_rng(3)
util.use_course_style()

# %% [markdown]
# ## 3.1 What is in an MR image
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
# voxel as background (0), edema (1), non-enhancing or necrotic tumour (2) or enhancing tumour (3). (Where the patients are
# simulated, so is the expert: the mask is what the simulator put there.)
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
fig, axes = plt.subplots(1, 5, figsize=(10.5, 3))
for axis, name, channel in zip(axes, [*decathlon.CHANNELS, "expert's mask"], [0, 1, 2, 3, 0]):
    mask = label[box] if name == "expert's mask" else None
    util.paint_slice(axis, image[box][..., channel], mask, at=cut - box[2].start)
    axis.set_title(name)
util.colour_legend(fig)
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
# to the top (**s**uperior): "RAS" for short. The array's own axes may run any way; DICOM and BraTS prefer left and back. The
# reader of this course turns every array to RAS, so that index and millimetre grow together, and adapts the affine.

# %%
voxel = [int(index) for index in np.argwhere(label == label.max())[0]]
place = nib.affines.apply_affine(case.affine, voxel)
stored = nifti.load(case.label_file)
in_file = nib.affines.apply_affine(np.linalg.inv(stored.affine), place).round().astype(int).tolist()
print("affine after reading:", *case.affine.round(2), sep="\n  ")
before, after = ("".join(nib.aff2axcodes(affine)) for affine in (stored.affine, case.affine))
print(f"axes in the file: {before}, after reading: {after}")
print(f"voxel {voxel} lies at {place.round(1).tolist()} mm; its indices in the file are {in_file}")
print(f"label there: {label[tuple(voxel)]}; in the file's own code: {int(stored.dataobj[tuple(in_file)])}")

# %% [markdown]
# ### Intensities have no unit
#
# In computed tomography, water is 0 Hounsfield units everywhere in the world. An MR intensity is only a number: it depends on
# the scanner, the coil, the sequence and the day. Compare the same sequence in four patients:

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for patient in brain[:4]:
    voxels = patient.image()[..., [0, 2]]
    for axis, values in zip(axes, voxels[voxels.any(-1)].T):
        limits = (0, np.percentile(values, 99.8))
        axis.hist(values[values > 0], bins=100, range=limits, histtype="step", density=True, label=patient.name)
for axis, name in zip(axes, ("FLAIR", "T1gd")):
    axis.set(title=f"{name}, voxels of the brain", xlabel="intensity (no unit)", yticks=[])
    axis.set_ylabel("share of voxels")
axes[0].legend(fontsize=8)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 2. Intensities of the same sequence in four patients. What is grey in one is white in another: a threshold that finds
# the tumour of one patient finds nothing, or everything, in the next.*
#
# **Summary.** A scan is four volumes of the same head in different contrast, plus a header. The affine says where each voxel
# lies; never part an array from it. Intensities have no unit and must be standardised per scan.
#
# *Further exercises.* (1) Change one entry of the affine so that it mirrors the head. How would you notice? (2) Guess from
# Figure 2 on which of the patients a network trained on one of them would fail.

# %% [markdown]
# ## 3.2 Exploring volumes
#
# A volume is not a pile of pictures: a tumour that is round in one plane may be a thin plate in another. Look at all three
# planes, with and without the mask, before you train anything. Many a failed project could have been stopped here: masks
# shifted by a slice, left and right swapped, a sequence that covers half of the brain.

# %%
fig = util.show_planes({"FLAIR": image[..., 0], "T1gd": image[..., 2]}, label)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 3. The largest cuts through the tumour in three planes. A and P: front (anterior) and back (posterior) of the head.*

# %%
util.animate_slices(image[..., 0], label, brain.source)

# %% [markdown]
# *Figure 4. A film through the FLAIR image from bottom to top, without and with the mask. Radiologists scroll like this all day:
# what continues from slice to slice is a structure, what flickers is noise, or a vessel cut across.*
#
# How much of a scan is tumour? The answer decides how we cut patches, which loss we take and which metrics mean anything.

# %%
chosen = brain.draw(4 if QUICK else 12, np.random.default_rng(0))
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
# always, and useless. The classes differ in size, and so do the patients.
#
# *Further exercise.* Paint the mask on the T2w image instead. Which of its borders can you still justify?

# %% [markdown]
# ## 3.3 Patches and standardisation
#
# At full resolution, a single layer with eight channels over one scan takes hundreds of megabytes, and training keeps dozens
# of layers. So the network sees boxes cut out of the scan: **patches**. Most places in a head hold no tumour, and patches
# drawn anywhere would teach the network that there never is one. We accept a patch only if it has enough tumour in it.

# %%
whole_mib, patch_mib = (8 * 4 * float(np.prod(shape)) / 2**20 for shape in (case.shape, (64, 64, 64)))
print(f"one layer of 8 channels, float32: whole scan {whole_mib:.0f} MiB, patch of 64³ voxels {patch_mib:.0f} MiB")

# %% [markdown]
# ### Exercise: cut a patch (16 points)
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
fig, axes = plt.subplots(1, 5, figsize=(10.5, 2.8))
for axis, name, channel in zip(axes, [*decathlon.CHANNELS, "y"], [0, 1, 2, 3, 0]):
    mask = as_map if name == "y" else None
    util.paint_slice(axis, patch[..., channel], mask, at=middle, letters=False)
    axis.set_title(name)
util.colour_legend(fig)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 5. The slice of a random patch with most tumour: the four channels of X, and y painted on the first.*

# %% [markdown]
# ### Exercise: standardise (12 points)
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
fig, axes = plt.subplots(1, 3, figsize=(10, 3.1), width_ratios=[1, 1, 0.9])
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
# *Figure 6. Left and middle: the same sagittal cut. Right: the mean of the healthy brain in each axial slice. Slice by slice, every
# slice gets a mean and a spread of its own, and the tumour has a say in them: the same healthy tissue is called darker where there is a
# tumour beside it, and the difference between slices at the top and the bottom of the brain, which is anatomy, is wiped out.*

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3))
for patient in brain[:4]:
    voxels = standardize(patient.image())[..., [0, 2]]
    for axis, values in zip(axes, voxels[voxels.any(-1)].T):
        axis.hist(values, bins=80, range=(-3, 5), histtype="step", density=True, label=patient.name)
for axis, name in zip(axes, ("FLAIR", "T1gd")):
    axis.set(title=f"{name}, standardised", xlabel="standard deviations from the brain's mean", yticks=[])
    axis.set_ylabel("share of voxels")
axes[0].legend(fontsize=8)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 7. The four patients of Figure 2 after standardisation: now on one scale.*
#
# **Summary.** Networks learn from patches, and those with too little tumour are drawn again. Each channel is standardised over the
# brain of the whole scan: never over the background, never slice by slice, never with the numbers of other patients.
#
# *Further exercise.* Draw 100 patches with `background_threshold=1.01` (every patch is welcome). What share of them holds any tumour?

# %% [markdown]
# ## 3.4 The 3D U-Net
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
unet = brain_network.unet3d()
fig = util.draw_unet(brain_network.FILTERS, side=64)
util.sign_figure(fig, f"{unet.count_params():,} parameters")

# %% [markdown]
# *Figure 8. The network, for a patch of 64³ voxels. Height: side of the volume in voxels. Width: number of channels. Arrows:
# skip connections. Built by one function of 30 lines, `unet3d` in `models/brain/network.py`; read it.*
#
# ### Exercise: a step upwards (10 points)
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

# %%
below, across = keras.Input((8, 8, 8, 64)), keras.Input((16, 16, 16, 32))
step = keras.Model([below, across], up_step(below, across, 32))
print(f"{below.shape[1:]} and {across.shape[1:]} become {step.output.shape[1:]}, with {step.count_params():,} weights")

# %%
probabilities = unet(np.zeros((1, 32, 48, 16, 4), np.float32))
print("any box whose sides are divisible by 16 will do:", tuple(probabilities.shape))

# %% [markdown]
# **Summary.** Down for context, up for precision, skips to join both; instance normalisation because batches are tiny. The network is
# fully convolutional: it takes patches of any size, which will make whole scans fast.
#
# *Further exercise.* How far can a voxel see? Add up the receptive field: each 3×3×3 convolution adds 2 voxels of its own level, and a
# voxel of level $n$ (1 after folding) is $2^n$ voxels wide.

# %% [markdown]
# ## 3.5 How good is a mask? Dice, and a loss made of it
#
# Accuracy is the share of voxels that are right. Let us score four masks with it: nothing at all, the true mask moved by 5 voxels,
# the true mask grown by 2 voxels, and the true mask itself.

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
    rows.append([(mask == truth).mean(), 2 * (mask & truth).sum() / (mask.sum() + truth.sum())])
table = pd.DataFrame(rows, index=pd.Index(masks, name="mask"), columns=["accuracy", "Dice"])
util.show_table(table, f"Accuracy and Dice of four masks of the whole tumour of {case.name}", brain.source)

# %% [markdown]
# Finding nothing looks excellent by accuracy, because background is nearly everything. The **Dice coefficient** leaves the background out:
#
# $$\mathrm{Dice}(t, p) = \frac{2\,|t \cap p|}{|t| + |p|} = \frac{2\sum_i t_i p_i + \epsilon}{\sum_i t_i + \sum_i p_i + \epsilon}$$
#
# It is 1 for a perfect mask and 0 without overlap. It is also the F1 score of the voxels. The small $\epsilon$ defines it where
# there is neither truth nor prediction: 1, for nothing was missed. (Dice, Ecology 1945.)
#
# ### Exercise: Dice of one class (8 points)
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
# ### Exercise: Dice of several classes (12 points)
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
# ### Exercise: soft Dice loss (12 points)
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
truth = np.zeros((24, 24, 24, 2), np.float32)
truth[2:12, 2:12, 2:12, 0] = truth[15:18, 15:18, 15:18, 1] = 1  # one class of 1,000 voxels, one of 27
good = np.where(truth == 1, 0.9, 0.02).astype(np.float32)
sureness = np.linspace(0.02, 0.999, 60)


def with_small_structure(p):
    return np.where((truth == 1) & [False, True], p, np.where(truth == 1, good, 0.02))


def with_false_voxels(p):
    changed = good.copy()
    changed[20:24, :4, :4, 0] = p
    return changed


losses = {
    "soft Dice loss": lambda found: float(soft_dice_loss(truth[None], found[None].astype(np.float32))),
    "cross-entropy": lambda found: -np.mean(truth * np.log(found) + (1 - truth) * np.log(1 - found)),
}
fig, axes = plt.subplots(1, 2, figsize=(9, 3))
for axis, change, title in zip(
    axes, (with_small_structure, with_false_voxels), ("the small structure is found", "64 false voxels, ever surer")
):
    for name, loss in losses.items():
        values = [loss(change(p)) for p in sureness]
        axis.plot(sureness, np.array(values) / values[0], label=name)
    axis.set(title=title, xlabel="p of these voxels", ylabel="loss, start = 1", ylim=(0, None))
axes[0].legend()
util.sign_figure(fig, "worked example")

# %% [markdown]
# *Figure 9. Left: the network gets surer of the 27 voxels of the small class; soft Dice rewards it, cross-entropy hardly notices. Right: it
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
# *Further exercises.* (1) Move the mask in the first table by 1, 2, 3 … voxels, for the largest and the smallest class. Why does Dice punish
# small structures more? (2) What is Dice when both masks are empty, and what if one voxel is then predicted?

# %% [markdown]
# ## 3.6 Training on a small set
#
# Patients are split before anything is learned: some train, some tell us during training how it goes, and some, the **test** patients,
# stay unseen until the end.

# %%
tests, validations = (1, 1) if QUICK else (4, 2)
known = {scan.name: brain.source != "simulated" and scan.is_among(known_patients()) for scan in chosen}
scans_of = {}  # each patient's, for a patient may have several; last those on whom the shipped network of 3.7 was trained
for scan in sorted(chosen, key=lambda scan: [False, None, True].index(known[scan.name])):
    scans_of.setdefault(scan.patient, []).append(scan)
assert len(scans_of) > tests + validations, f"{len(scans_of)} patients are too few: at least {tests + validations + 1} are needed"
unseen = [person for person, scans in scans_of.items() if not known[scans[0].name]]
test_people = (unseen or list(scans_of))[:tests]
test_cases = [scans_of[person][0] for person in test_people]
if not unseen:
    print("ATTENTION: the shipped network was trained on all of these patients, so its results below are too good.")
elif any(known[scan.name] is None for scan in test_cases):
    print("ATTENTION: this release names patients differently, so the shipped network may have been trained on the test patients.")
others = [person for person in scans_of if person not in test_people]
validation_cases, training_cases = (
    [scan for person in part for scan in scans_of[person]] for part in (others[:validations], others[validations:])
)
print(
    f"{len(training_cases)} scans to train, {len(validation_cases)} to validate, {len(test_cases)} to test, of {len(scans_of)} patients"
)


def load(patient):
    """Image, cropped to the brain and standardised, and label."""
    image, label = patient.image(), patient.label()
    box = decathlon.brain_box(image)
    return standardize(image[box]).astype(np.float32), label[box]


training_scans = [load(patient) for patient in util.progress(training_cases, description="reading scans")]
validation_scans = [load(patient) for patient in validation_cases]


class Patches(keras.utils.PyDataset):
    """Random patches, mirrored left to right half of the time: a head has no preferred side."""

    def __init__(self, scans, batches, batch=2, side=48, mirror=True, seed=0):
        super().__init__()
        self.scans, self.batches, self.batch = scans, batches, batch
        self.side, self.mirror = side, mirror
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        pairs = []
        while len(pairs) < self.batch:
            image, label = self.scans[self.rng.integers(len(self.scans))]
            size = [min(self.side, length // 16 * 16) for length in label.shape]
            pair = get_sub_volume(image, label, *size, 4, 100, 0.97, rng=self.rng)
            if pair is not None:  # a patient without enough tumour is passed over
                turn = -1 if self.mirror and self.rng.random() < 0.5 else 1
                pairs.append([part[::turn] for part in pair])
        return tuple(np.stack(parts).astype(np.float32) for parts in zip(*pairs))


# %%
side, steps, epochs = (32, 4, 2) if QUICK else (48, 25, 6)
check_patches = Patches(validation_scans, 1, batch=8, side=side, mirror=False)[0]
student = brain_network.unet3d(name="trained_here")
student.compile(keras.optimizers.Adam(3e-3), loss=dice_and_cross_entropy, metrics=[dice_coefficient])
started = time.perf_counter()
history = student.fit(
    Patches(training_scans, steps, side=side), validation_data=check_patches, validation_batch_size=2, epochs=epochs, verbose=2
)
print(f"{epochs * steps} steps in {time.perf_counter() - started:.0f} s")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3))
titles = {"loss": "soft Dice + cross-entropy", "dice_coefficient": "mean Dice of the classes"}
for axis, (name, title) in zip(axes, titles.items()):
    for prefix, who in (("", "training patches"), ("val_", "validation patches")):
        axis.plot(range(1, epochs + 1), history.history[prefix + name], marker="o", label=who)
    axis.set(title=title, xlabel="epoch")
axes[0].legend()
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 10. Learning curves of the small training. The validation patches are few and fixed, so their curve is bumpy. Both are still on their
# way: a minute is a demonstration, not a training.*
#
# **Summary.** Split by patient first. Watch the loss on patients that are not trained on. A minute on two processor cores is enough to see
# the network learn, not enough for a network to use.
#
# *Further exercises.* (1) Train with `soft_dice_loss` alone, and with cross-entropy alone. (2) Set `mirror=False`. (3) Ten times more steps.

# %% [markdown]
# ## 3.7 The shipped weights, patch by patch
#
# `models/` holds weights of the same network that were trained longer, by `models/brain/train.py`, on **other simulated patients** and on
# nine real ones of BraTS 2018 (`models/brain/trained_on.txt`; none of them is among the test patients here). While it was trained, each level on
# the way up also had to give an answer of its own at its coarse resolution (**deep supervision**), so that the deep levels learn directly; these
# extra answers are thrown away afterwards. The file is checked before use (complete? right network?) and kept in 16-bit numbers.

# %%
shipped = brain_network.unet3d(name="shipped")
load_weights(shipped, brain_network.BRAIN_WEIGHTS)

# %% [markdown]
# ### Exercise: sensitivity and specificity of a class (12 points)
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
def one_hot(label):
    """Label map (…) of 0 to 3 to one-hot code (…, 3) without the background."""
    return label[..., None] == np.arange(1, 4)


test_scans = [load(patient) for patient in test_cases]
X, y = Patches(test_scans, 1, batch=4 if QUICK else 12, side=32 if QUICK else 64, mirror=False)[0]
del test_scans
networks = {"trained here": student, "shipped": shipped}
found = {
    name: np.concatenate([brain_predict.label_map(network.predict_on_batch(x[None])) for x in X])
    for name, network in networks.items()
}
rows = []
for number, class_name in enumerate(util.BRAIN_CLASSES):
    for name in networks:
        p = one_hot(found[name])
        dice = float(single_class_dice_coefficient(np.float32(y[..., number]), np.float32(p[..., number]), axis=(0, 1, 2, 3)))
        rows.append([class_name, name, *compute_class_sens_spec(p, y, number), dice])
table = pd.DataFrame(rows, columns=["class", "network", "sensitivity", "specificity", "Dice"])
caption = f"All voxels of {len(X)} patches of the test patients"
util.show_table(table.set_index(["class", "network"]), caption, brain.source)

# %% picture=[0.4, 0, 1, 0.92]
most = int(np.argmax([patch[..., 2].sum() for patch in y]))
middle = int(y[most].any(axis=-1).sum(axis=(0, 1)).argmax())
shown = {
    "FLAIR": None,
    "T1gd": None,
    "expert": (y[most] * [1, 2, 3]).sum(axis=-1),
    "trained here": found["trained here"][most],
    "shipped": found["shipped"][most],
}
fig, axes = plt.subplots(1, 5, figsize=(10.5, 2.8))
for axis, (name, mask) in zip(axes, shown.items()):
    util.paint_slice(axis, X[most][..., 2 if name == "T1gd" else 0], mask, at=middle, letters=False)
    axis.set_title(name)
util.colour_legend(fig)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 11. One slice of a test patch: what goes in, what the expert drew, and what the two networks say.*
#
# **Summary.** Sensitivity and specificity say in which direction a mask is wrong. Patches are drawn where there is tumour, so the numbers of
# this section are too friendly: nothing here asks what the network does in the healthy rest of the head.
#
# *Further exercise.* Why is specificity so high for every class, and what would it be for the mask "nothing"?

# %% [markdown]
# ## 3.8 Whole scans
#
# A patient has a head, not a patch. The network takes any box, but a whole scan does not fit the memory of most machines, so a window
# **slides** over the brain and the results are put together. Near its border a window sees only half the surroundings and is less reliable.
# So windows overlap by half, and each voxel takes the weighted mean of all windows that saw it: the **Gaussian weights** are high in the middle
# of a window and low at its border. Let us see whether that matters.

# %%
tile = (96, 96, 96)
patient = test_cases[0]
scan, expert = standardize(patient.image()).astype(np.float32), patient.label()
ways = {
    "no overlap": {"overlap": 0, "gaussian": False},
    "half overlap, equal weights": {"overlap": 0.5, "gaussian": False},
    "half overlap, Gaussian weights": {"overlap": 0.5, "gaussian": True},
}
ways = dict(list(ways.items())[-1:]) if QUICK else ways
results, rows = {}, []
for name, way in ways.items():
    started = time.perf_counter()
    results[name] = brain_predict.predict_scan(shipped, scan, tile, **way)
    seconds = time.perf_counter() - started
    mask = brain_predict.label_map(results[name])
    dice = float(single_class_dice_coefficient(np.float32(expert > 0), np.float32(mask > 0)))
    rows.append([name, dice, util.hausdorff95(mask > 0, expert > 0, patient.spacing), seconds])
table = pd.DataFrame(rows, columns=["window", "whole-tumour Dice", "HD95, mm", "seconds"]).set_index("window")
caption = f"Ways to slide a window of {tile[0]}³ voxels over {patient.name}"
util.show_table(table, caption, brain.source)

# %%
cut = util.largest_slice(expert > 0)[2]
frame = decathlon.brain_box(scan, margin=2)
fig, axes = plt.subplots(1, len(results) + 1, figsize=(2.7 * (len(results) + 1), 3.1))
best = list(results.values())[-1].sum(axis=-1)
for axis, (name, found) in zip(axes, results.items()):
    util.paint_slice(axis, found[frame].sum(axis=-1) + 1e-6, at=cut - frame[2].start, letters=False)
    axis.set_title(name.replace("half overlap, ", ""))
difference = np.abs(next(iter(results.values())).sum(axis=-1) - best)[frame]
util.paint_slice(axes[-1], difference + 1e-6, at=cut - frame[2].start, letters=False)
axes[-1].set_title("|first − last|")
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 12. Probability of tumour in one axial slice for each way to slide the window, and where the first and the last differ (its own
# scale). What runs along a straight line is a seam: the border of a window, not of anything in the head.*
#
# For one patient the gain may be nothing. What the weights remove is the seams, where a mask would depend on where the windows
# happen to lie.

# %% [markdown]
# ### Regions: what the clinic asks
#
# Surgeons and trials do not ask for "class 2". They ask for three nested regions, which is also how BraTS scores: the **whole tumour** (WT:
# classes 1, 2 and 3), the **tumour core** (TC: 2 and 3, what a surgeon would remove) and the **enhancing tumour** (ET: 3).
#
# ### Exercise: regions (8 points)
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
# Now the report. Next to sensitivity, specificity and Dice, it has the **95 % Hausdorff distance** (HD95): 95 % of either surface lie within
# this many millimetres of the other. It notices a border that is off where Dice hardly moves, but it ignores up to 5 % of the surface: a small
# island far away from the tumour, or a second tumour that was missed, may leave no trace in either. All voxels of the scan count.
#
# So count, too, how many of the **separate pieces** the network has found at all.
#
# ### Exercise: recall of lesions (10 points)
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


# %%
def report(found, expert, spacing):
    """Table of one scan: a row for each class and region, from two label maps (x, y, z)."""
    names = [("class", name) for name in util.BRAIN_CLASSES] + [("region", name) for name in util.BRAIN_REGIONS]
    names = pd.MultiIndex.from_tuples(names, names=["", "structure"])
    ours = np.concatenate([one_hot(found), get_regions(found)], axis=-1)
    theirs = np.concatenate([one_hot(expert), get_regions(expert)], axis=-1)
    rows = []
    for number in range(len(names)):
        p, t = ours[..., number], theirs[..., number]
        row = [*compute_class_sens_spec(ours, theirs, number)]
        dice = float(single_class_dice_coefficient(np.float32(t), np.float32(p))) if t.any() else np.nan  # no truth, no overlap
        row += [dice, util.hausdorff95(p, t, spacing), lesion_recall(p, t)]
        row += [util.volume_ml(p, spacing), util.volume_ml(t, spacing)]
        rows.append(row)
    columns = ["sensitivity", "specificity", "Dice", "HD95, mm", "lesions found", "network, ml", "expert, ml"]
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


def segment(patient):
    """Label map of a patient as the shipped network sees it (a speck of enhancing tumour counts as none), and the expert's."""
    scan = standardize(patient.image()).astype(np.float32)
    found = brain_predict.label_map(brain_predict.predict_scan(shipped, scan, tile))
    return brain_predict.clean(found, one_piece=False, spacing=patient.spacing), patient.label()


rows = []
for patient in util.progress(validation_cases, description="segmenting validation scans"):
    found, expert = segment(patient)
    for way, mask in (("all pieces", found), ("largest piece", keep_largest_piece(found))):
        dice = float(single_class_dice_coefficient(np.float32(expert > 0), np.float32(mask > 0)))
        rows.append([patient.name, way, dice, util.hausdorff95(mask > 0, expert > 0, patient.spacing)])
table = pd.DataFrame(rows, columns=["patient", "", "whole-tumour Dice", "HD95, mm"]).set_index(["patient", ""])
util.show_table(table, "Validation patients", brain.source)
by_way = table["whole-tumour Dice"].groupby(level="").mean()
keep_one = bool(by_way["largest piece"] > by_way["all pieces"])  # a tie changes nothing
print("on the test patients we keep", "the largest piece" if keep_one else "all pieces")

# %% [markdown]
# Now the test patients, once.

# %%
found_masks, reports = {}, {}
for patient in util.progress(test_cases, description="segmenting test scans"):
    found, expert = segment(patient)
    found_masks[patient.name] = keep_largest_piece(found) if keep_one else found
    reports[patient.name] = report(found_masks[patient.name], expert, patient.spacing)
everything = pd.concat(reports, names=["patient"])
groups = everything.groupby(level=["", "structure"], sort=False)
mean = groups.mean()
mean.insert(0, "patients with it", groups["expert, ml"].agg(lambda volumes: (volumes > 0).sum()))
util.show_table(
    mean, f"Mean over {len(test_cases)} test patients, whole scans; Dice and HD95 of those who have the structure", brain.source
)
empty = everything.index[(everything["expert, ml"] == 0) & (everything["network, ml"] > 0)]
for patient, _, structure in empty:
    print(
        f"{patient}: the expert drew no {structure}, the network {everything.loc[(patient, _, structure), 'network, ml']:.2f} ml. Not in the mean of Dice."
    )

# %%
by_patient = everything.loc[(slice(None), "region"), ["Dice", "HD95, mm"]].unstack("structure")
by_patient.columns = [f"{region.split('(')[1][:2]} {metric}" for metric, region in by_patient.columns]
by_patient = by_patient.droplevel("").sort_index()
util.show_table(by_patient, "Each test patient: a mean hides the one for whom it went wrong", brain.source)

# %% [markdown]
# **Summary.** Whole scans are segmented by overlapping windows with Gaussian weights. Choices are made on validation patients. Report regions and classes, overlap *and* distance, the
# mean *and* each patient. Dice says nothing, and HD95 is not defined, where the expert drew nothing; such a patient is reported apart, with the
# false volume, and the number of patients behind each mean is in the table.
#
# *Further exercises.* (1) Move the scan by one voxel in one direction and segment it again: does the mask move along? (2) Segment the
# scan and its mirror image, mirror the second result back, and average the two (`predict_scan(…, mirror=(0,))` does the same). Is it better?
# What does it cost?

# %% [markdown]
# ## 3.9 Millilitres, and where it fails
#
# Trials judge response by the RANO criteria: two diameters of the enhancing tumour, steroids, and how the patient is; volume is an option
# there, and what a mask gives for free. A mask can be right in volume and wrong in place, so this plot complements Dice, it does not replace it.

# %%
fig, axis = plt.subplots(figsize=(5.2, 4.2))
regions = everything.xs("region", level="")
for region, marker in zip(util.BRAIN_REGIONS, "os^"):
    part = regions.xs(region, level="structure")
    axis.scatter(part["expert, ml"], part["network, ml"], marker=marker, s=50, label=region)
volumes = regions[["expert, ml", "network, ml"]]
limits = [0.7 * max(0.3, volumes.min().min()), 1.4 * volumes.max().max()]
axis.plot(limits, limits, color="#999999", linewidth=1, zorder=0)
axis.set(xscale="log", yscale="log", xlim=limits, ylim=limits, title="Volumes of the test patients")
axis.set(xlabel="expert, ml", ylabel="network, ml", aspect="equal")
axis.legend()
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 13. Volume by the network against volume by the expert, one mark for each region and test patient. On the line they agree; both axes are
# logarithmic.*
#
# Now the patient with the lowest whole-tumour Dice, at the slice with most wrong voxels. Do not look at the mean case; look at this one.

# %%
whole_tumour = ("region", util.BRAIN_REGIONS[0])
worst = min(test_cases, key=lambda patient: reports[patient.name].loc[whole_tumour, "Dice"])
image, expert, found = worst.image(), worst.label(), found_masks[worst.name]
missed, false_alarm = (expert > 0) & (found == 0), (expert == 0) & (found > 0)
errors = np.select([missed, false_alarm, expert != found], [1, 2, 3], 0)
cut = int((errors > 0).sum(axis=(0, 1)).argmax())
frame = decathlon.brain_box(image, margin=2)
kinds, colours = ("missed", "false alarm", "wrong class"), ("#56B4E9", "#CC79A7", "#009E73")
fig, axes = plt.subplots(1, 5, figsize=(10.5, 3.1))
masks = {"FLAIR": None, "T1gd": None, "expert": expert, "network": found, "errors": errors}
for axis, (name, mask) in zip(axes, masks.items()):
    volume = image[frame][..., 2 if name == "T1gd" else 0]
    mask = None if mask is None else mask[frame]
    palette = colours if name == "errors" else util.CLASS_COLOURS
    util.paint_slice(axis, volume, mask, at=cut - frame[2].start, colours=palette)
    axis.set_title(name)
util.colour_legend(fig, (*util.BRAIN_CLASSES, *kinds), (*util.CLASS_COLOURS, *colours))
util.sign_figure(fig, f"{worst.name}, slice {cut}, {brain.source}")

# %% [markdown]
# *Figure 14. The slice with most wrong voxels of the worst test patient: what the network saw, what the expert and the network drew, and the errors.*

# %%
surface = (expert > 0) ^ ndimage.binary_erosion(expert > 0)
depth = ndimage.distance_transform_edt(~surface, sampling=worst.spacing)
rows = []
for number in (1, 2, 3):
    far = pd.Series(depth[errors == number])  # the mean of none is nan
    rows.append([len(far), (far <= 2).mean(), (far > 10).mean()])
columns = ["voxels", "share within 2 mm of the surface", "share beyond 10 mm"]
table = pd.DataFrame(rows, index=pd.Index(kinds, name="error"), columns=columns)
util.show_table(table, f"Errors of {worst.name} and the surface of the expert's whole tumour", brain.source)

# %% [markdown]
# Errors along the surface are often a matter of taste: two experts would differ there too. Errors far from it are real: a missed part, or a
# vessel or a bright patch of healthy tissue taken for tumour.
#
# **Summary.** Compare volumes as well as overlap; look at the worst patient, not the average one; tell errors at the border from errors of judgement.
#
# *Further exercise.* Which sequence misled the network in Figure 14? Set one channel of the standardised scan to 0, segment again, and compare.

# %% [markdown]
# ## 3.10 Save the mask, so that it opens on the scan
#
# A mask is of use when it can be opened in a viewer, on top of the scan, at the right place. That takes the **affine**, and the right
# data type: `uint8` for labels. Never for probabilities: 0.97 becomes 0.

# %%
folder = COURSE / "build" / "segmentation"
folder.mkdir(parents=True, exist_ok=True)
path = folder / f"{worst.name}_prediction.nii.gz"
nifti = nib.Nifti1Image(found.astype(np.uint8), worst.affine)
nifti.header.set_xyzt_units("mm")
nifti.header["descrip"] = b"0 background 1 edema 2 non-enhancing 3 enhancing"
nib.save(nifti, path)

back = nib.load(path)
same = np.array_equal(np.asanyarray(back.dataobj), found) and np.allclose(back.affine, worst.affine)
print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB, {back.get_data_dtype()}; same voxels and affine: {same}")
probability = results[list(results)[-1]].max()
print(f"largest probability {probability:.3f}, as uint8: {np.uint8(probability)}")

# %% [markdown]
# nilearn draws both files by their affines, not by their indices. If the mask sits on the tumour here, it will sit there in every viewer.

# %%
background = nib.Nifti1Image(image[..., 0].astype(np.float32), worst.affine)
centre = nib.affines.apply_affine(worst.affine, util.largest_slice(found > 0))
fig = plt.figure(figsize=(8.6, 3.2), layout="none")
style = {"cmap": util.label_colours(), "alpha": 0.6, "vmin": 1, "vmax": 3, "black_bg": True, "colorbar": False}
plotting.plot_roi(back, bg_img=background, cut_coords=centre, figure=fig, **style)
util.sign_figure(fig, brain.source)

# %% [markdown]
# *Figure 15. The saved file on top of the scan, in millimetres, as nilearn draws it (here left is left).*
#
# Open it in a viewer too. **ITK-SNAP**: *File → Open Main Image* (the scan), then *Segmentation → Open Segmentation* (the saved file), or
# `itksnap -g scan.nii.gz -s prediction.nii.gz`. **3D Slicer**: drop both files in, and load the second as a *Segmentation*.
#
# **Summary.** Labels as `uint8`, probabilities as floats, always with the affine of the scan they belong to, and read back once before you
# send it to anybody.
#
# *Further exercise.* Save the mask with `np.eye(4)` in place of the affine and draw Figure 15 again.

# %% [markdown]
# ## 3.11 What these numbers do not prove
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
