# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · Chest X-ray classification
#
# A radiologist reads a chest X-ray in a minute or two and names what is there: fluid, a nodule, an enlarged heart. In this
# notebook you build a network that names fourteen such findings, and you meet the mistakes that make such networks look
# better than they are.
#
# **After it you can**
#
# * prepare and look at a chest X-ray data set before any model sees it,
# * keep a patient from standing in both the training and the validation set, and measure what it costs when one does,
# * weight a loss by class, and say from a measurement what that does and what it does not do,
# * say what a pretrained network is worth for a given number of X-rays, and when fine-tuning pays,
# * score a network per finding, with the uncertainty that a small test set leaves,
# * find out what is left of it at another hospital, and what recalibrating there mends,
# * ask with GradCAM *where* the network looked, and catch it when it looked at the wrong thing.
#
# **Time:** about four hours with the exercises; three minutes to run. **Points:** 100, in five exercises, each with a check
# under it.
# **You should know** Python, NumPy and what a convolutional network is. Notebook 2 takes up the predictions that this one writes.
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
# *Nothing here is a medical device. The embedded X-rays are simulated, and every figure and table made from them says so.*

# %% [markdown]
# ## 1.1 Setup and data
#
# *10 minutes. The question: what does a data set of X-rays consist of, and who says what they show?*
#
# The first cell finds the course's files. The second holds the two settings of this notebook.

# %% tags=["setup"]
# Finds the course: lessons/setup.py.

# %% tags=["parameters"]
DATA_DIR = None  # None: simulated X-rays. Or a folder in the NIH ChestX-ray14 format: real patients
QUICK = False  # True: fewer X-rays and steps, to see in a minute that everything runs

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import public_tests
import util
from data import nih
from data.png import fit_square
from data.prediction_tables import PredictionTable, write_predictions
from models.chest.calibration import fit_calibration
from models.chest.films import FilmBatches, augment_film, predict_films, standardize_films
from models.chest.network import CHEST_SIZE, densenet121
from models.terminal import training_progress

assert keras.config.backend() == "tensorflow", "This notebook uses the TensorFlow backend: unset KERAS_BACKEND."
tf.get_logger().setLevel("ERROR")  # no advice for TensorFlow's own developers
keras.utils.set_random_seed(1)  # the same numbers in every run on the same machine
util.use_course_style()

# %% [markdown]
# The format of the NIH ChestX-ray14 archive (Wang et al., CVPR 2017) is the door through which all X-rays come in: a folder
# of PNG files and a few tables. `DATA_DIR = None` has the course simulate such a folder (once, then it is kept). Point it
# to a folder with X-rays of real patients, and nothing else in this notebook changes.
#
# | file | what it holds |
# | --- | --- |
# | `images/*.png` | one frontal X-ray each |
# | `Data_Entry_2017_v2020.csv` | findings, patient, age, sex and view of each X-ray; the findings were mined from the radiologist's report by a text program |
# | `train_val_list.txt`, `test_list.txt` | the official split |
# | `BBox_List_2017.csv` | for some X-rays the box around a finding |
# | `radiologist_labels.csv` | for some test X-rays a manual reading |

# %%
if DATA_DIR is None:
    from data.chest_simulator.cohort import chest_cohort

    DATA_DIR = chest_cohort()

chest = nih.take_patients(nih.read_chest_folder(DATA_DIR), films=150 if QUICK else 1200)
films, table = nih.load_films(chest, size=CHEST_SIZE)
FINDINGS = list(nih.FINDINGS)

print(f"{len(films):,} X-rays of {table['Patient ID'].nunique():,} patients ({chest.source})")
print(f"each {films.shape[1]} × {films.shape[2]} pixels, grey levels {films.min()} to {films.max()}")
util.show_table(
    table[["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position", "split"]].head(6),
    "The first rows of the table",
    chest.source,
)

# %% [markdown]
# An X-ray is a grey picture: **white is where little radiation arrived** (bone, heart, fluid), black is where much did (air).
# An X-ray can carry several findings at once, or none; "No Finding" means none of the fourteen, not that the patient is
# healthy. So this is not one question with fourteen answers but fourteen yes/no questions, and each gets its own output.
#
# Two kinds of labels matter. The table's labels were **mined** from report texts: plentiful, and wrong now and then. For
# test X-rays there may be a **manual** reading, which is what we score against. Training on cheap labels and testing on
# expensive ones is sound; the reverse would not be.

# %%
row = int(table.index[table["split"] == "train_val"][0])  # any X-ray
fig = util.plot_numbers(films[row], row=76, column=88)
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 1. What the computer is given: an array of numbers, 0 for black to 255 for white (right, the numbers of the orange square). Nobody tells the
# network that neighbouring numbers belong together; that is what convolutions are for. The X-ray was taken with many more pixels; at this size
# small nodules are hardly to be seen.*
#
# **Summary.** X-rays and tables are read from one public folder format; an X-ray is an array of numbers. A label is somebody's or
# some program's opinion; know whose.
#
# *Further exercises.* (1) ★ How many X-rays carry no finding, how many more than two? (2) ★ What does an X-ray look like as `255 - film`, and why do some
# like to look at it that way?
#
# <details><summary>Answers</summary>
#
# (1) `table[FINDINGS].sum(axis=1).value_counts()`. (2) Black on white, as on a fluoroscopy screen. The information is the same; eyes find thin bright
# lines on dark ground, and dark ones on bright ground, not equally easily.
# </details>

# %% [markdown]
# ## 1.2 Look before you model
#
# *10 minutes. The question: what could a network learn from these X-rays that has nothing to do with disease?*
#
# Most disasters with medical data can be seen in an afternoon of looking. Look at the X-rays first, then at the tables.

# %%
rng = np.random.default_rng(3)
shown = rng.choice(len(films), 10, replace=False)
titles = [table["Finding Labels"][row].replace("|", "\n").replace("_", " ") for row in shown]
titles = ["\n".join(title.split("\n")[:2]) + (" …" if title.count("\n") > 1 else "") for title in titles]


def picture(row):
    """An X-ray at twice the network's resolution, to be looked at."""
    return nih.read_film(chest.film_path(table["Image Index"][row]), 2 * CHEST_SIZE)


util.show_films([picture(row) for row in shown], titles, chest.source)

# %% [markdown]
# *Figure 2. Ten X-rays drawn at random, with their report-derived labels. The patient faces you: the heart is on the right of the
# picture. Can you see what the label says? On many X-rays you cannot, and that is normal: some findings are subtle, and
# some labels are wrong.*
#
# **If these X-rays are simulated, do not learn radiology from them.** They show the textbook sign of each finding and little else. A simulated
# pneumothorax, for one, is a wide dark crescent without lung markings in an otherwise healthy chest. A real one is often a narrow rim at the apex, with a
# fine line where the lung ends; many of those in archives are under treatment, with a drain in place (which a network finds more easily than the
# air), beside collapsed or operated lung. What a network that was trained on simulated X-rays alone is worth on real ones stands in
# `models/README.md`.

# %%
labels = table[FINDINGS].to_numpy(int)
counts = table.groupby("split")[FINDINGS].sum().T.sort_values("train_val")
films_of = table.groupby("split").size()
fig = util.plot_prevalence(counts, shares=counts / films_of, films=films_of)
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 3. How many X-rays carry each finding, and which share of the X-rays that is (the prevalence), for both parts of
# the official split. Rare findings have a handful of X-rays to learn from; and where the two parts differ, the data were
# not drawn alike.*

# %%
together = labels.T @ labels  # X-rays with both findings; on the diagonal, X-rays with the finding
fig = util.plot_cooccurrence(together / np.maximum(np.diag(together), 1)[:, np.newaxis])
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 4. Co-occurrence: of the X-rays with the row's finding, how many per cent also carry the column's. Findings keep
# company, so a network may learn one finding by another's sign.*

# %%
abnormal = labels.any(axis=1)
fig = util.plot_people(table, abnormal)
util.sign_figure(fig, chest.source)

views = table["View Position"].isin(["AP", "PA"]).to_numpy()
is_ap = (table["View Position"] == "AP").to_numpy()
by_view = {finding: util.auroc(labels[views, k], is_ap[views]) for k, finding in enumerate(FINDINGS)}
tied = max(by_view, key=lambda finding: np.nan_to_num(by_view[finding]))
print(f"X-rays with any finding: {abnormal[is_ap].mean():.0%} of the AP, {abnormal[views & ~is_ap].mean():.0%} of the PA X-rays.")
print("AUROC of a “model” that knows the view and nothing else:")
print(f"  any finding {util.auroc(abnormal[views], is_ap[views]):.2f}, {tied} {by_view[tied]:.2f} (0.50 would be guessing).")

# %% [markdown]
# *Figure 5. Who was X-rayed: age and sex; the share of X-rays with any finding, by view and sex; how many X-rays a patient has.*
#
# AP X-rays are taken at the bedside, of patients too ill to stand. As far as the two views differ in the share with a finding, the view alone says
# something about illness, and a network that recognises the bedside gets an AUROC above 0.5 without having seen a single finding: the view is a
# **confounder**. The numbers printed above say how far that goes here.

# %%
fig = util.plot_views(films, table["View Position"])
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 6. The mean X-ray of each view and the distribution of grey levels. Peaks at the very ends are collimated borders
# and burnt-in letters, not anatomy.*
#
# **Summary.** Findings are rare, unequally rare, and keep company; the sick may be X-rayed in another view; a patient may have
# many X-rays. Each of these will matter below.
#
# *Further exercises.* (1) ★ Which finding is tied least to the view? (2) ★★ Do patients with many X-rays carry more findings? Count
# patients, not X-rays.
#
# <details><summary>Answers</summary>
#
# (1) `min(by_view, key=lambda finding: abs(by_view[finding] - 0.5))`. (2)
# `table.assign(n=labels.sum(axis=1)).groupby("Patient ID")["n"].agg(["mean", "size"]).groupby("size").mean()`. In archives
# it is usually yes: who is ill is X-rayed again. That is one more thing that a network can use without seeing a disease.
# </details>

# %% [markdown]
# ## 1.3 Preventing data leakage
#
# *20 minutes. The question: how much better does a network look when it has met the patients before?*
#
# A model must be judged on patients it has never seen, because that is how it will be used. If one X-ray of a patient is in
# the training set and another in the validation set, the network can recognise the *patient* (ribs, heart, pacemaker) in
# place of the disease. This is **data leakage**; below you measure what it does here.
#
# ### Exercise 1: `check_for_leakage` (12 points)
#
# Write a function that tells whether any patient is in both of two tables.
#
# * `df1`, `df2`: tables with one row an X-ray
# * `patient_col`: name of the column with the patient's number
# * return `True` if at least one patient stands in both, else `False`
#
# <details><summary>Hint</summary>
#
# A patient can have many rows, and the tables are in no particular order. Python sets, or pandas' `isin`, do not care.
# </details>


# %% exercise="check_for_leakage"
def check_for_leakage(df1, df2, patient_col):
    """Tell whether some patient is in both tables.

    Parameters
    ----------
    df1, df2 : DataFrame
        One row an X-ray.
    patient_col : str
        Name of the column that holds the patient.

    Returns
    -------
    bool
    """
    ### BEGIN SOLUTION
    return bool(df1[patient_col].isin(df2[patient_col]).any())
    ### END SOLUTION


# %% check="check_for_leakage" points=12
public_tests.check_for_leakage_test(check_for_leakage)

# %% [markdown]
# Now the splits. The official one separates `train_val` from `test`; we check it rather than believe it. Then we take a
# fifth of the train_val *patients* for validation.

# %%
train_val = table[table["split"] == "train_val"]
test_all = table[table["split"] == "test"]
rows_train, rows_valid = next(GroupShuffleSplit(1, test_size=0.2, random_state=1).split(train_val, groups=train_val["Patient ID"]))
train, valid = train_val.iloc[rows_train], train_val.iloc[rows_valid]

print("leakage, official split:", check_for_leakage(train_val, test_all, "Patient ID"))
print("leakage, our train and valid:", check_for_leakage(train, valid, "Patient ID"))
careless_train, careless_valid = train_val.iloc[::2], train_val.iloc[1::2]
print("leakage, every second X-ray for validation:", check_for_leakage(careless_train, careless_valid, "Patient ID"))

# %% [markdown]
# ### Exercise 2: `repair_leakage` (8 points)
#
# A leak that was found can be repaired: take from the *training* table every row of a patient who is in the validation table. (Not the other
# way round: who is in the validation set was decided before, and must not depend on what is convenient.)
#
# * return the rows of `train` whose patient is not in `valid`, in their order and with their index; leave both tables as they are
#
# <details><summary>Hint</summary>
#
# `train[patient_col].isin(valid[patient_col])` marks the rows to leave out; `~` turns the marks round.
# </details>


# %% exercise="repair_leakage"
def repair_leakage(train, valid, patient_col):
    """Training rows without the patients of the validation table.

    Parameters
    ----------
    train, valid : DataFrame
        One row per X-ray.
    patient_col : str
        Name of the column that holds the patient.

    Returns
    -------
    DataFrame
        Rows of `train`, in their order, with their index.
    """
    ### BEGIN SOLUTION
    return train[~train[patient_col].isin(valid[patient_col])]
    ### END SOLUTION


# %% check="repair_leakage" points=8
public_tests.repair_leakage_test(repair_leakage)

# %%
repaired = repair_leakage(careless_train, careless_valid, "Patient ID")
print(f"careless split: {len(careless_train):,} training X-rays; after the repair {len(repaired):,} are left.")
print("leakage after the repair:", check_for_leakage(repaired, careless_valid, "Patient ID"))

# %% [markdown]
# ### What leakage does
#
# Is it worth the trouble? We measure it: one and the same model, trained and scored twice, once with X-rays split at random
# and once with patients split at random. To be quick, the model is a linear one on top of 1,024 numbers that a network
# computes from each X-ray (its *features*; section 1.6 explains them). We repeat the split many times, because one split is
# luck.
#
# The network is DenseNet121 with the weights that come with the course. Computing is dear, so **the features of all X-rays are computed
# once**, here, and serve until the end of the notebook; so does what comes out of the network just before its last block, kept in 16 bits.

# %%
model = densenet121(CHEST_SIZE, weights="course")  # weights="imagenet" if you are online and want to compare
front = keras.Model(model.input, model.get_layer("pool4_conv").output)  # all layers before the last block
last_block = keras.Model(front.output, model.get_layer("features").output)

mean, sd = films[train.index].mean(), films[train.index].std()
frozen = predict_films(front, films, mean, sd, what="all X-rays, once").astype(np.float16)
features = last_block.predict(frozen, batch_size=64, verbose=0)
print(f"features {features.shape}; kept before the last block {frozen.shape}, {frozen.nbytes / 1e6:.0f} MB")


# %%
def mean_auroc(y, pred, least=5):
    """Mean AUROC over findings with at least `least` positives and as many negatives; nan if there is none."""
    enough = (y.sum(axis=0) >= least) & ((1 - y).sum(axis=0) >= least)
    return np.mean([util.auroc(y[:, k], pred[:, k]) for k in np.flatnonzero(enough)]) if enough.any() else np.nan


def fit_linear(x, y, alpha=300.0):
    """A linear model of all findings at once, on standardised inputs; large weights cost `alpha`."""
    return make_pipeline(StandardScaler(), Ridge(alpha)).fit(x, y)


def score_splits(splitter, groups):
    """AUROC of the same linear model on each of the splitter's validation parts."""
    x, y = features[train_val.index], labels[train_val.index]
    scores = []
    for fit_rows, score_rows in splitter.split(x, groups=groups):
        linear = fit_linear(x[fit_rows], y[fit_rows])
        scores.append(mean_auroc(y[score_rows], linear.predict(x[score_rows])))
    return np.array(scores)


# %% [markdown]
# <details><summary>Predict first: will the leaky split look better by 0.001, 0.01 or 0.1 AUROC?</summary>
#
# It depends on how many X-rays a patient has, on how alike they are, and on how much the model can remember. The next cell measures it. Where
# most patients have one X-ray, there is little to leak.
# </details>

# %% tags=["example"]
repeats = 4 if QUICK else 20
leaky = score_splits(ShuffleSplit(repeats, test_size=0.25, random_state=0), None)
honest = score_splits(GroupShuffleSplit(repeats, test_size=0.25, random_state=0), train_val["Patient ID"])
print(
    f"Mean AUROC over {repeats} splits of each kind: X-rays at random {leaky.mean():.3f}, patients at random {honest.mean():.3f}."
)
print(f"Leakage makes this model look better by {leaky.mean() - honest.mean():+.3f}. It is not better by anything.")

fig, ax = plt.subplots(figsize=(8, 2.2))
ax.boxplot([honest, leaky], orientation="horizontal", tick_labels=["patients\nsplit", "X-rays split\n(leaky)"], widths=0.6)
ax.set_xlabel("mean AUROC on the validation part")
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 7. One model, two ways of splitting, each repeated: line, box and whiskers are median, quartiles and range without outliers. The
# difference between the boxes is not skill: it is patients recognised. The width of a box is what a single split leaves to luck.*
#
# **Summary.** Split by patient, check that you did, and distrust reports that do not say how they split.
#
# *Further exercises.* (1) ★ Replace `Ridge` by `sklearn.neighbors.KNeighborsRegressor(1)`, a model that only remembers. What
# happens to both numbers? (2) ★★ And with a smaller or larger `alpha`?
#
# <details><summary>Answers</summary>
#
# (1) Expect a wider gap: the nearest X-ray is often one of the same patient, whose labels are often the same. And expect a lower honest number,
# since remembering does not help with new patients. (2) A small `alpha` lets the linear model remember more, which should widen the gap. A large one
# makes it forget patients and, at some point, findings too.
# </details>

# %% [markdown]
# ## 1.4 An input pipeline
#
# *10 minutes. The question: what may be done to an X-ray before a network sees it?*
#
# **Standardise.** A network learns best from numbers around 0 with a spread around 1. So every pixel becomes
#
# $$ z = \frac{x - \mu_\text{train}}{\sigma_\text{train}} $$
#
# with the mean and standard deviation of the **training** X-rays, for the validation and test X-rays as well. Statistics of
# the test set would be a small leak: a model in use meets one X-ray at a time and has no test set to average.
#
# There is another way: standardise **each X-ray by itself**. It forgets how bright the X-ray was as a whole. On film, that was dose; digital
# units scale every image on their own before anybody sees it, so the overall brightness says little about the patient and much about the
# unit. Which way is better is not a matter of taste. Measure both.

# %%
print(f"training X-rays: mean {mean:.1f}, standard deviation {sd:.1f} grey levels")
for name, part in [("training", train), ("validation", valid), ("test", test_all)]:
    standardised = standardize_films(films[part.index], mean, sd)
    print(f"{name:>10}: {len(part):5,} X-rays,", f"standardised to mean {standardised.mean():+.2f}, sd {standardised.std():.2f}")


def each_by_itself(films):
    """X-rays whose mean and standard deviation are both made those of the training X-rays."""
    pixels = films.astype(np.float32)
    own_mean, own_sd = pixels.mean(axis=(1, 2), keepdims=True), pixels.std(axis=(1, 2), keepdims=True)
    return ((pixels - own_mean) / own_sd * sd + mean).round().clip(0, 255).astype(np.uint8)


def small_pixels(films):
    """X-rays of 32 × 32 pixels, as rows of numbers."""
    step = CHEST_SIZE // 32
    return films.reshape(-1, 32, step, 32, step).mean(axis=(2, 4)).reshape(len(films), -1)


own_layer = keras.Model(front.output, model.output)  # the last block and the last layer, as they came
y_train, y_valid = labels[train.index].astype(np.float32), labels[valid.index]
by_themselves = predict_films(front, each_by_itself(films[valid.index]), mean, sd, what="each X-ray by itself")
ways = {}
for name, change, before in [
    ("training set's statistics", lambda films: films, frozen[valid.index]),
    ("each X-ray by itself", each_by_itself, by_themselves),
]:
    linear = fit_linear(small_pixels(change(films[train.index])), y_train, alpha=1000.0)
    pixels = mean_auroc(y_valid, linear.predict(small_pixels(change(films[valid.index]))))
    ways[name] = [pixels, mean_auroc(y_valid, own_layer.predict(before, batch_size=64, verbose=0))]
caption = "Mean AUROC on the validation X-rays, by two ways of standardising"
util.show_table(pd.DataFrame(ways, index=["32 × 32 pixels, linear model", "the course's network"]), caption, chest.source)

# %% [markdown]
# The network was trained with a training set's statistics, so it starts with an advantage there. What counts is the size of the difference: where
# it is small, brightness as a whole carries little, and standardising each X-ray is a fair choice. At another hospital it may be
# the better one (section 1.7 tries it).
#
# **Augment.** Turn, shift, scale and re-expose each training X-ray a little, a little differently in every epoch, and the
# network cannot learn the X-rays by heart. Which changes are allowed is a medical question. A patient may stand a little
# askew and the exposure varies: fine. But **do not mirror**: the heart is on the left, and a mirrored X-ray shows another
# (rare) condition, with the marker on the wrong side.

# %%
example = films[train.index[0]]
rng = np.random.default_rng(0)
util.show_films([example] + [augment_film(example, rng) for _ in range(4)], ["as it is"] + ["augmented"] * 4, chest.source)

# %% [markdown]
# *Figure 8. One X-ray and four variants as the network may see it in four epochs. Had we cropped it hard or turned it by
# 40°, no radiologist would accept it as an X-ray; then a network need not either.*

# %%
batches = FilmBatches(films[train.index], y_train, mean, sd, augment=True, seed=1)
x, y = batches[0]
print(f"{len(batches)} batches an epoch; one holds X-rays {x.shape} {x.dtype} and labels {y.shape} {y.dtype}")

# %% [markdown]
# **Summary.** Statistics come from the training set or from the X-ray itself, never from the test set. Augmentation may do to an X-ray what
# the next patient or the next exposure might do, and nothing else.
#
# *Further exercises.* (1) ★ Which of these would you allow: noise, a black rectangle somewhere, a small letter in a corner, an elastic
# deformation? (2) ★★ For which findings may mirroring do no harm?
#
# <details><summary>Answers</summary>
#
# (1) Noise: yes, exposure varies. A rectangle: it looks like nothing real, but it may hide the finding, whose label then is wrong. A letter: a good
# idea against shortcuts (section 1.12), if it is drawn for ill and healthy alike. Elastic: mildly; strong ones enlarge hearts. (2) For those that are
# as frequent on both sides and look alike there, such as pneumothorax; not for an enlarged heart. And every mirrored X-ray teaches that the
# heart may be on either side.
# </details>

# %% [markdown]
# ## 1.5 Class imbalance
#
# *30 minutes. The question: do rare findings need a weighted loss?*
#
# Of a hundred X-rays only a few carry a given finding. The usual loss, binary cross-entropy, averages over X-rays, so at the start almost
# all of it comes from negatives. What it asks for is still right: the best answer that is the same for everybody is the prevalence, not
# "no". Class weights change what is asked for.
#
# ### Exercise 3: `compute_class_freqs` (10 points)
#
# For labels of shape (X-rays, classes) return the share of positives and the share of negatives of each class.
#
# <details><summary>Hint</summary>
#
# Count along `axis=0` (over the X-rays) and divide by the number of X-rays. The two results add up to 1.
# </details>


# %% exercise="compute_class_freqs"
def compute_class_freqs(labels):
    """Share of positive and of negative X-rays in each class.

    Parameters
    ----------
    labels : array of 0/1, shape (X-rays, classes)

    Returns
    -------
    positive_frequencies, negative_frequencies : arrays, each of shape (classes,)
    """
    ### BEGIN SOLUTION
    positive_frequencies = np.mean(labels, axis=0)
    negative_frequencies = 1 - positive_frequencies
    return positive_frequencies, negative_frequencies
    ### END SOLUTION


# %% check="compute_class_freqs" points=10
public_tests.compute_class_freqs_test(compute_class_freqs)

# %% [markdown]
# At the start of training a network has no opinion and says about 0.5 to everything. Each X-ray then adds the same to the
# loss, so a class's positives contribute in proportion to how many there are. To let positives and negatives count alike
# we weight them with each other's frequency:
#
# $$ w^+_c = \text{freq}^-_c \qquad w^-_c = \text{freq}^+_c \qquad\Rightarrow\qquad
#    w^+_c\,\text{freq}^+_c = w^-_c\,\text{freq}^-_c $$

# %% tags=["example"]
freq_pos, freq_neg = map(np.asarray, compute_class_freqs(labels[train.index]))
pos_weights, neg_weights = freq_neg, freq_pos

fig = util.plot_loss_shares({"unweighted": (freq_pos, freq_neg), "weighted": (freq_pos * pos_weights, freq_neg * neg_weights)})
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 9. Who contributes to the loss of each class when the network has no opinion yet. Left: nearly all of it comes
# from X-rays without the finding. Right: after weighting, half and half in every class that has a positive at all.*

# %% [markdown]
# ### Exercise 4: `get_weighted_loss` (30 points)
#
# For one X-ray and one class the weighted binary cross-entropy is
#
# $$ \ell = -\big( w^+ \, y \, \log(p + \varepsilon) + w^- \, (1-y) \, \log(1 - p + \varepsilon) \big) . $$
#
# Average it over the X-rays of the batch, then **sum over the classes**. Write a function that takes the weights and returns
# a loss function for Keras. $\varepsilon$ keeps the logarithm from meeting 0.
#
# <details><summary>Hint</summary>
#
# Use `keras.ops` (`keras.ops.log`, `keras.ops.mean(…, axis=0)`, `keras.ops.sum`) so that Keras can differentiate it; `y_true`
# may come as integers, so cast it with `keras.ops.cast(y_true, y_pred.dtype)`. The inner function sees the outer one's
# arguments.
# </details>


# %% exercise="get_weighted_loss"
def get_weighted_loss(pos_weights, neg_weights, epsilon=1e-7):
    """Binary cross-entropy that weights positives and negatives of each class.

    Parameters
    ----------
    pos_weights, neg_weights : arrays of shape (classes,)
    epsilon : float
        Added inside both logarithms.

    Returns
    -------
    function
        ``weighted_loss(y_true, y_pred)`` of two tensors (batch, classes), giving one number.
    """

    def weighted_loss(y_true, y_pred):
        ### BEGIN SOLUTION
        y = keras.ops.cast(y_true, y_pred.dtype)
        w_pos = keras.ops.cast(pos_weights, y_pred.dtype)
        w_neg = keras.ops.cast(neg_weights, y_pred.dtype)
        log_yes = keras.ops.log(y_pred + epsilon)
        log_no = keras.ops.log(1 - y_pred + epsilon)
        return keras.ops.sum(keras.ops.mean(-(w_pos * y * log_yes + w_neg * (1 - y) * log_no), axis=0))
        ### END SOLUTION

    return weighted_loss


# %% check="get_weighted_loss" points=30
public_tests.get_weighted_loss_test(get_weighted_loss)

# %% [markdown]
# What the weights do, on four X-rays of which one is positive. Four models say the same to everybody; none of them has looked at anything.
#
# <details><summary>Predict first: which constant answer does the plain loss like best, and which one the weighted loss?</summary>
#
# The plain loss: the prevalence, 0.25. The weighted loss: one half, as if half of the patients were ill, since that is what the weights pretend.
# </details>

# %% tags=["example"]
y_toy = np.array([[1.0], [0.0], [0.0], [0.0]], dtype="float32")
toy_pos, toy_neg = map(np.asarray, compute_class_freqs(y_toy))


def toy_loss(loss, p):
    """Loss of a model that says p to all four."""
    return float(loss(keras.ops.convert_to_tensor(y_toy), keras.ops.convert_to_tensor(np.full((4, 1), p, "float32"))))


answers = [0.1, 0.25, 0.5, 0.9]
toy = pd.DataFrame(
    {
        "plain loss": [toy_loss(get_weighted_loss(np.ones(1), np.ones(1)), p) for p in answers],
        "weighted loss": [toy_loss(get_weighted_loss(toy_neg, toy_pos), p) for p in answers],
    },
    index=["always 0.10", "always 0.25, the prevalence", "always 0.50", "always 0.90"],
)
util.show_table(toy, "Loss of models that say the same to everybody", "worked example")

# %% [markdown]
# The plain loss likes the prevalence best: the best guess for a patient of whom one knows nothing. The weighted loss likes 0.5 best and finds 0.1 and
# 0.9 equally bad. It asks another question: *would this patient be ill if ill and healthy were equally many?*
#
# ### Do class weights help?
#
# One often reads that without weights a network "learns nothing but no". Measure it. Take two **heads** on the same features: a head is a last layer
# alone, one weight for each feature and finding. Everything is the same but the loss (and the start: each head begins with the constant answer that its
# loss likes best).
#
# Since we know what the weights did, we can also undo it. A weighted head overrates the odds by the factor $w^+ / w^-$, so its
# *intercept* is too high by $\log(w^+/w^-)$; subtract that from the log-odds.
#
# <details><summary>Predict first: which head puts the X-rays into the better order (AUROC)? Whose probabilities are right?</summary>
#
# For a model of this kind the weights mostly shift the intercept, and a shift changes no order. So expect hardly any difference in AUROC, and
# probabilities that are far too high. The table says whether that holds here.
# </details>


# %%
feature_mean, feature_sd = features[train.index].mean(axis=0), features[train.index].std(axis=0) + 1e-6
scaled = (features - feature_mean) / feature_sd


def train_head(name):
    """A new last layer, trained on the features of the training X-rays, with the "plain" or the "weighted" loss."""
    loss, start = losses[name]
    keras.utils.set_random_seed(1)
    layer = keras.layers.Dense(len(FINDINGS), kernel_initializer="zeros", name="logits")
    head = keras.Sequential([keras.Input((features.shape[1],)), layer, keras.layers.Activation("sigmoid")])
    layer.bias.assign(start)
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=1.0)  # large weights cost something; the intercept is free
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    head.compile(optimizer, loss)
    head.fit(scaled[train.index], y_train, epochs=20, batch_size=32, verbose=0)
    return head


def auroc_difference(y, first, second, patients, which=slice(None)):
    """Mean AUROC of `first` minus that of `second` on the same X-rays, and its 95 % interval: patients are drawn anew."""
    y, first, second = y[:, which], first[:, which], second[:, which]
    enough = (y.sum(axis=0) >= 5) & ((1 - y).sum(axis=0) >= 5)
    if not enough.any():
        return np.nan, np.nan, np.nan
    drawn = util.resample_patients(patients, 200 if QUICK else 1000, np.random.default_rng(0))
    one, other = (np.nanmean(util.bootstrap_auroc(y[:, enough], p[:, enough], *drawn), axis=1) for p in (first, second))
    return mean_auroc(y, first) - mean_auroc(y, second), *util.percentile_interval(one - other)


ones = np.ones(len(FINDINGS))
losses = {  # the loss, and the log-odds of the constant answer that it likes best: where its head starts
    "plain": (get_weighted_loss(ones, ones), logit(util.clip_probabilities(freq_pos))),
    "weighted": (get_weighted_loss(pos_weights, neg_weights), 0 * ones),
}
heads = {name: train_head(name) for name in losses}
said = {name: head.predict(scaled[valid.index], verbose=0) for name, head in heads.items()}
shift = np.log(pos_weights / np.maximum(neg_weights, 1e-6))
said["weighted, intercept corrected"] = expit(logit(util.clip_probabilities(said["weighted"])) - shift)
said["prevalence to everybody"] = np.tile(freq_pos, (len(valid), 1))

rare = freq_pos < 0.05
measured = {
    name: {
        "AUROC": mean_auroc(y_valid, p),
        "AUROC, rare findings": mean_auroc(y_valid[:, rare], p[:, rare]),
        **util.calibration_scores(y_valid, p),
        "found at 0.5": (p >= 0.5)[y_valid == 1].mean(),
        "false alarms at 0.5": (p >= 0.5)[y_valid == 0].mean(),
    }
    for name, p in said.items()
}
caption = "Heads on the same features, validation X-rays; mean over the findings; found and false alarms over all answers"
util.show_table(pd.DataFrame(measured).T, caption, chest.source)

weights_help = auroc_difference(y_valid, said["weighted"], said["plain"], valid["Patient ID"])
weights_help_rare = auroc_difference(y_valid, said["weighted"], said["plain"], valid["Patient ID"], rare)
print("AUROC, weighted minus plain: {:+.3f} (95 % interval {:+.3f} to {:+.3f})".format(*weights_help))
print("  findings in less than 5 %: {:+.3f} ({:+.3f} to {:+.3f})".format(*weights_help_rare))
lower = said["plain"] >= freq_pos
print(f"The plain head with the prevalence as its threshold: found {lower[y_valid == 1].mean():.3f}, ", end="")
print(f"false alarms {lower[y_valid == 0].mean():.3f}")
kept = "weighted" if weights_help[1] > 0 else "plain"
print(f"We go on with the {kept} loss.")

# %% tags=["example"]
fig = util.plot_reliability_row(y_valid, {name: said[name] for name in list(said)[:3]})
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 10. Reliability of the three heads on validation X-rays, all findings together: of the answers near a probability (right), which share
# had the finding (up)? On the dotted line words and facts agree; below it the model says too much. The size of a point is the number of answers.*
#
# Read the table by its columns. *AUROC*: whether weights help to find anything; the interval of the difference decides, and rare findings have a line of
# their own. *ECE* (the mean gap between what was said and what was so) and *Brier* (mean squared error): what weights do to probabilities, and that a
# known shift can be undone. (The prevalence, said to everybody, has a small ECE and knows nothing: a calibrated model need not be a
# useful one.) *Found at 0.5*: here the weighted head seems to win, but compare the plain head with the prevalence as its
# threshold, in the lines below the table. What looks like learning is another threshold.
#
# **Summary.** Weights from the class frequencies give positives and negatives the same say in the loss. They move probabilities by a known shift; whether
# they improve the order of X-rays has to be measured each time. A threshold is the honest way to find more and alarm more; notebook 2 chooses it.
#
# *Further exercises.* (1) ★ For a finding in 2 % of the X-rays, what does the weighted head say of a patient of whom nothing is known, and what
# does the correction make of it? (2) ★★ A network that is trained end to end, with few steps, may gain from weights where our heads do not. Why?
#
# <details><summary>Answers</summary>
#
# (1) 0.5, log-odds 0. The shift is $\log(0.98/0.02)$; taken away, the probability is 0.02. (2) With few steps the loss is far from its minimum,
# and weights (or a first intercept at the prevalence) change which way it goes first. A fully trained head has forgotten where it started.
# </details>

# %% [markdown]
# ## 1.6 Transfer learning with DenseNet121
#
# *25 minutes. The question: what is a pretrained network worth, and when does training more of it pay?*
#
# A network with seven million weights can hardly be trained from nothing on a thousand X-rays. But its early layers (edges, textures, shapes)
# serve for many tasks, so we take a network trained on other images and teach it our X-rays:
#
# 1. **New head.** All layers stay as they are; only the last one, one weight per feature and finding, is learned. As frozen
#    layers give the same output every time, we compute it once for all X-rays (we have: `features`) and train in seconds.
# 2. **Last block.** Then the last of the four dense blocks is trained too, with a small step. What is before it stays frozen, so that its output need
#    not be computed again either (we have: `frozen`).
#
# In a DenseNet (Huang et al., CVPR 2017) each layer sees the outputs of *all* layers before it in its block, so that
# features are reused and gradients reach the front. DenseNet121 is the classic of chest X-rays since CheXNet
# (Rajpurkar et al., 2017).
#
# `weights="imagenet"` starts from everyday photographs (Keras downloads 30 MB). `weights="course"`, our default, needs no
# network: these weights were trained on other simulated X-rays (other patients) and on real X-rays of the NIH archive's
# `train_val` list (see `models/README.md`). So when you work on X-rays of that list, the network may know some of them:
# believe the test X-rays, which it has never seen, and not the validation X-rays.

# %%
blocks = (
    pd.Series({layer.name: layer.count_params() for layer in model.layers})
    .groupby(lambda name: name.split("_")[0] if name.startswith(("conv", "pool")) else name)
    .sum()
)
print(f"{model.count_params():,} weights; where they are:")
print(blocks[blocks > 0].to_string())

# %% [markdown]
# What is inside? Each layer turns its input into *maps*, pictures that are bright where the layer has found what it looks for. From layer to layer
# they become smaller and more numerous.

# %%
LAYERS = {"early": "conv1_relu", "middle": "pool3_relu", "late": "relu"}
inside = keras.Model(model.input, [model.get_layer(name).output for name in LAYERS.values()])
activations = [np.asarray(activation)[0] for activation in inside(standardize_films(films[[row]], mean, sd))]
inner = {}
for when, all_maps in zip(LAYERS, activations):
    height, width, number = all_maps.shape
    inner[f"{when}: one of {number:,} maps\n{height} × {width}"] = all_maps[:, :, all_maps.std(axis=(0, 1)).argmax()]
fig = util.plot_layers(films[row], inner)
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 11. One X-ray and one map (that varies most) of an early, a middle and the last layer. An early map still looks like the X-ray: edges and
# brightness. A late one has a few cells only; it no longer says what something looks like but roughly where something is. The mean of each
# late map over its cells is one of the 1,024 features; that it forgets the place is the reason for section 1.9.*
#
# ### Transfer, measured
#
# What is all this worth? Train the same kind of head on more and more X-rays, and hold it against other ways:
#
# * a linear model on **32 × 32 pixels**: no network at all;
# * the same on the features of DenseNet121 with **random weights**: the architecture without what it has learned;
# * the same on the features of the **shipped network**;
# * two points: a **small network from scratch** on all training X-rays, and the shipped network with its **last block trained** too.
#
# For each number of X-rays we draw patients several times, since which patients one gets is luck.
#
# <details><summary>Predict first: how many X-rays must the linear model on pixels have to reach what the shipped features reach with 50?</summary>
#
# Follow the curves to the right and look. Features that were learned on many thousand X-rays stand for X-rays that you need not have.
# </details>


# %%
def features_with(weights):
    """Features of the training and validation X-rays when the network has other weights."""
    kept = model.get_weights()
    model.set_weights(weights)
    found = predict_films(front, films[train_val.index], mean, sd, what="random weights")
    found = last_block.predict(found, batch_size=64, verbose=0)
    model.set_weights(kept)
    return pd.DataFrame(found, index=train_val.index)


def draw_patients(n, rng):
    """About `n` training X-rays: all X-rays of patients drawn at random."""
    x_rays = train.groupby("Patient ID").size().sample(frac=1, random_state=rng).cumsum()
    return train.index[train["Patient ID"].isin(x_rays.index[x_rays <= n])]


inputs = {
    "32 × 32 pixels": pd.DataFrame(small_pixels(films[train_val.index]), index=train_val.index),
    "features, random weights": features_with(densenet121(CHEST_SIZE, weights=None).get_weights()),
    "features, shipped network": pd.DataFrame(features[train_val.index], index=train_val.index),
}
rng = np.random.default_rng(6)
sizes = [n for n in (50, 100, 200, 400) if n < 0.8 * len(train)]
draws = {n: [draw_patients(n, rng) for _ in range(3 if QUICK else 8)] for n in sizes} | {len(train): [train.index]}
scores = pd.DataFrame(
    [
        {
            "features": name,
            "X-rays": n,
            "AUROC": mean_auroc(y_valid, fit_linear(x.loc[rows], labels[rows]).predict(x.loc[valid.index])),
        }
        for name, x in inputs.items()
        for n, drawn in draws.items()
        for rows in drawn
    ]
)

# %% [markdown]
# The small network from scratch gets augmented X-rays of 64 × 64 pixels; larger ones would take longer.

# %%
half = films.reshape(len(films), CHEST_SIZE // 2, 2, CHEST_SIZE // 2, 2).mean(axis=(2, 4)).astype(np.uint8)
scratch = keras.Sequential([keras.Input((CHEST_SIZE // 2, CHEST_SIZE // 2, 1))])
for filters in (16, 32, 64):
    scratch.add(keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
    scratch.add(keras.layers.BatchNormalization())
    scratch.add(keras.layers.Activation("relu"))
scratch.add(keras.layers.GlobalAveragePooling2D())
scratch.add(keras.layers.Dense(len(FINDINGS), activation="sigmoid"))
scratch.compile(keras.optimizers.Adam(3e-3), losses["plain"][0], jit_compile=False)
batches = FilmBatches(half[train.index], y_train, mean, sd, augment=True, seed=1)
scratch.fit(batches, epochs=2 if QUICK else 15, verbose=0, callbacks=[training_progress()])
from_scratch = mean_auroc(y_valid, predict_films(scratch, half[valid.index], mean, sd, what="from scratch"))

# %% [markdown]
# **The last block.** It starts from the shipped weights with the new head, and its step is small: large steps would wreck what the layers know. Batch
# normalisation layers stay frozen: their running statistics come from many thousand X-rays and ours are few. Since it
# starts from `frozen`, which was computed once, there is no augmentation here; it would mean running the whole front for each variant.


# %%
back = own_layer  # the last block and the last layer: its weights are the whole network's weights
versions = {"shipped network, its own head": back.get_weights()}

kernel, bias = heads[kept].layers[0].get_weights()
kernel = kernel / feature_sd[:, np.newaxis]  # the head works on scaled features: put the scaling into its weights
model.get_layer("logits").set_weights([kernel, bias - feature_mean @ kernel])
versions["new head"] = back.get_weights()

for layer in back.layers:
    layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
trainable = sum(int(np.prod(weight.shape)) for weight in back.trainable_weights)
print(f"{trainable:,} of {model.count_params():,} weights are trained")
back.compile(keras.optimizers.Adam(3e-5), losses[kept][0], jit_compile=False)  # compiling would take longer than training
back.optimizer.build(back.trainable_variables)  # else TensorFlow traces the first step twice
history = back.fit(
    frozen[train.index],
    y_train,
    validation_data=(frozen[valid.index], y_valid.astype(np.float32)),
    epochs=1 if QUICK else 4,
    batch_size=32,
    verbose=0,
    callbacks=[training_progress()],
).history
versions["last block trained too"] = back.get_weights()

# %%
outputs = {}  # of all X-rays: training, validation, test
for name, weights in versions.items():
    back.set_weights(weights)
    outputs[name] = back.predict(frozen, batch_size=64, verbose=0)
reached = {name: mean_auroc(y_valid, p[valid.index]) for name, p in outputs.items()}

fig = util.plot_transfer(
    scores,
    {
        "small network from scratch": {len(train): from_scratch},
        "last block trained too": {len(train): reached["last block trained too"]},
    },
    {"shipped network, its own head": reached["shipped network, its own head"]},
)
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 12. Mean AUROC on the validation X-rays against the number of training X-rays. Lines: a linear model on three kinds of input, mean over
# the draws of patients; bands: from the worst to the best draw. Dashed: the network as it came, whose head was trained on many thousand X-rays and none
# of these.*
#
# **Pixels and random weights: what X-rays alone teach.** These two curves are what our training X-rays are worth to somebody who starts from nothing.
# Their distance from 0.5 (dotted) is what a linear model gets out of brightness and shape, and whether the architecture alone helps is
# the distance between the two.
#
# **Shipped features: what transfer is worth.** Read the distance to the curves below in two ways. Upwards: AUROC gained with the same
# X-rays. Sideways: X-rays saved for the same AUROC. At the left, where there are few X-rays, the band is wide: with 50 X-rays it matters which patients one
# happened to get.
#
# **From scratch.** The small network has to learn edges, textures and findings all at once from these X-rays. Compare its star with the curves: is a
# network better than a line through pixels when it starts from nothing?
#
# **The last block: when fine-tuning pays.** Its triangle lies above the end of the shipped features' curve if the last block has found something in our X-rays
# that the shipped one could not express, and below if it has learned our training X-rays by heart. It pays when there are many
# X-rays, or when ours look different from those that the network knows; with few of the same kind it costs more than it brings.

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3), width_ratios=[1, 1.3])
epochs = 1 + np.arange(len(history["loss"]))
left.plot(epochs, history["loss"], "o-", label="training")
left.plot(epochs, history["val_loss"], "o-", label="validation")
left.set(xlabel="epoch", ylabel="loss", title="training the last block", xticks=epochs)
left.legend()
differences = {
    f"{name}\nminus new head": auroc_difference(y_valid, p[valid.index], outputs["new head"][valid.index], valid["Patient ID"])
    for name, p in outputs.items()
    if name != "new head"
}
differences = pd.DataFrame(differences, index=["AUROC difference", "low", "high"]).T
util.plot_intervals(right, {"validation": differences}, value="AUROC difference")
right.axvline(0, color="black", lw=1, ls=":")
right.locator_params(axis="x", nbins=5)
util.sign_figure(fig, chest.source)

caption = "Three versions of the network, validation X-rays (report-derived labels)"
util.show_table(pd.DataFrame({"mean AUROC": reached}), caption, chest.source)
best = max(reached, key=lambda name: np.nan_to_num(reached[name]))
back.set_weights(versions[best])  # and with it `model`
print(f"We go on with: {best}.")

# %% [markdown]
# *Figure 13. Left: loss while the last block is trained. Training below validation means learning by heart; when the validation curve turns up,
# stop. Right: AUROC differences on the same validation X-rays with 95 % intervals (patients drawn anew). An interval that holds 0 says: with these
# patients, the two cannot be told apart.*
#
# We go on with the version that did best on validation, whichever that is. When the interval holds 0, that is a choice, not a finding; the
# simpler version would be as good a choice. Choosing the best of three on validation flatters the winner a little, which is why the test X-rays have not
# been touched.
#
# **Summary.** A pretrained network is worth X-rays that you do not have. Train the last layer first; train more only if validation, on other
# patients, says that it pays, and say how sure that is. More training is not more knowledge.
#
# *Further exercises.* (1) ★ Draw Figure 12 with `weights="imagenet"` in section 1.3 (Keras downloads it). (2) ★★ Train the last block on 100 X-rays
# (`draws[100][0]`) and on 400, and add the points. (3) ★★★ Unfreeze everything, with augmentation (`FilmBatches`). How long does an epoch take, and does it pay?
#
# <details><summary>Answers</summary>
#
# (1) Photographs teach edges and textures, X-rays teach more about X-rays: expect the curve between those of random and of shipped weights. (2) The
# fewer X-rays, the sooner the training loss should reach 0 while the validation loss turns up. (3) Everything before the last block has to be computed for every step, forwards and
# backwards: many times as long. With a thousand X-rays expect a change within the interval of Figure 13.
# </details>

# %% [markdown]
# ## 1.7 How good is it? ROC curves, and another hospital
#
# *25 minutes. The question: how sure is an AUROC, and what is it worth elsewhere?*
#
# The network is finished; now the test X-rays, once. We score against the **manual** reading where there is one.
#
# The area under the ROC curve (AUROC) is the probability that an X-ray with the finding gets a higher output than one
# without: 0.5 is a coin, 1.0 is perfect order. It needs no threshold. On few positives it is a rough estimate, so each
# one comes with a 95 % interval: we draw *patients* with replacement a thousand times and take the percentiles 2.5 and
# 97.5 of the AUROC (notebook 2 builds this bootstrap).

# %%
train_pred, valid_pred, test_all_pred = (outputs[best][part.index] for part in (train, valid, test_all))
manual = chest.manual.set_index("Image Index")
was_read = test_all["Image Index"].isin(manual.index).to_numpy()
if was_read.any():
    test, test_pred = test_all[was_read], test_all_pred[was_read]
    y_test = manual.loc[test["Image Index"], FINDINGS].to_numpy()
    truth_name = "manual labels"
else:  # a folder without a manual reading: report-derived labels must do, and the figures say so
    test, test_pred, y_test, truth_name = (test_all, test_all_pred, test_all[FINDINGS].to_numpy(), "report-derived labels")

results = util.auroc_intervals(y_test, test_pred, test["Patient ID"], FINDINGS, np.random.default_rng(0))
results.insert(0, "positives", y_test.sum(axis=0))
util.show_table(results, f"AUROC with 95 % interval on {len(test):,} test X-rays, {truth_name}", chest.source)

# %%
fig = util.plot_curve_grid("roc", y_test, test_pred, FINDINGS)
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 14. ROC curve of each finding: how many of the sick are found (up) at the price of how many false alarms (right).
# A curve with few positives climbs in large steps; each step upwards is one X-ray with the finding.*

# %%
fig, ax = plt.subplots(figsize=(8, 4.4))
util.plot_intervals(ax, {truth_name: results})
ax.axvline(0.5, color="k", lw=0.8, ls=":")
ax.set_xlim(0.2, 1.02)
util.sign_figure(fig, chest.source)

enough = results["positives"] >= 5
test_mean = results.loc[enough, "AUROC"].mean()
report_mean = mean_auroc(test_all[FINDINGS].to_numpy(), test_all_pred)
print(f"mean AUROC over {enough.sum()} findings with at least 5 positives: {test_mean:.3f} ({truth_name})")
print(f"the same model on the same split against the report-derived labels: {report_mean:.3f}")

# %% [markdown]
# *Figure 15. AUROC with 95 % intervals. To compare two models on the same patients, do not look whether intervals overlap: bootstrap the
# difference, as in Figure 13.*
#
# ### Hospital B
#
# The test X-rays came from the same hospital as the training X-rays. The simulator has a second one: an emergency and heart centre with more bedside
# X-rays, other prevalences, an X-ray unit of another make and other markers. Nobody has trained anything there. Three hundred X-rays: four fifths to
# judge the network, one fifth, with report-derived labels, to **recalibrate** it. Recalibrating means to fit one slope for all and an intercept for each
# finding, on the log-odds; the network stays as it is. (With X-rays of real patients this part is left out: it would need a folder from another
# hospital.)
#
# <details><summary>Predict first: which of AUROC, sensitivity at a fixed threshold and calibration will suffer? Which will recalibrating mend?</summary>
#
# All may suffer, none must: the table tells. Recalibrating changes how far up or down the probabilities of a finding are, and how far apart, but not their
# order: it can mend calibration and, with it, what a fixed threshold means. The AUROC of a finding stays exactly what it was.
# </details>


# %%
def calibration_line(y, p):
    """Calibration intercept and slope, all findings together; 0 and 1 are right."""
    line = LogisticRegression(C=np.inf).fit(logit(util.clip_probabilities(p)).reshape(-1, 1), y.ravel())
    return line.intercept_[0], line.coef_[0, 0]


def judge(y, p, which, thresholds):
    """Everything that a hospital would want to know, mean over the findings `which`."""
    alarm = p >= thresholds
    intercept, slope = calibration_line(y[:, which], p[:, which])
    return {
        "AUROC": mean_auroc(y[:, which], p[:, which]),
        "sensitivity at the old thresholds": np.mean([alarm[y[:, k] == 1, k].mean() for k in which]),
        "specificity at the old thresholds": np.mean([1 - alarm[y[:, k] == 0, k].mean() for k in which]),
        "mean probability": p[:, which].mean(),
        "share with the finding": y[:, which].mean(),
        "calibration intercept": intercept,
        "calibration slope": slope,
        "ECE": util.calibration_scores(y[:, which], p[:, which])["ECE"],
    }


# %%
if chest.source == "simulated":
    from data.chest_simulator.cohort import chest_cohort

    chest_b = nih.read_chest_folder(chest_cohort(films=60 if QUICK else 300, site="B"))
    films_b, table_b = nih.load_films(chest_b, size=CHEST_SIZE)
    here, there = (table_b.index[table_b["split"] == split].to_numpy() for split in ("train_val", "test"))
    y_b = chest_b.manual.set_index("Image Index").loc[table_b["Image Index"][there], FINDINGS].to_numpy()

    def ask(films):
        """Outputs of the network for X-rays of hospital B, standardised as at hospital A."""
        return back.predict(predict_films(front, films, mean, sd, what="hospital B"), batch_size=64, verbose=0)

    pred_b = ask(films_b)
    itself_b = ask(each_by_itself(films_b))
    log_odds = logit(util.clip_probabilities(pred_b))
    slope, intercepts = fit_calibration(log_odds[here], table_b.loc[here, FINDINGS].to_numpy())
    recalibrated_b = expit(slope * log_odds + intercepts)

    least = 1 if QUICK else 5
    which = [k for k in range(len(FINDINGS)) if min(y_test[:, k].sum(), y_b[:, k].sum(), y_valid[:, k].sum()) >= least]
    thresholds = np.array(
        [np.quantile(valid_pred[y_valid[:, k] == 1, k], 0.2) if y_valid[:, k].any() else 1 for k in range(len(FINDINGS))]
    )
    panels = {
        "A, test": (y_test, test_pred),
        "B, as it is": (y_b, pred_b[there]),
        "B, recalibrated": (y_b, recalibrated_b[there]),
        "B, X-rays standardised by themselves": (y_b, itself_b[there]),
    }
    judged = pd.DataFrame({name: judge(y, p, which, thresholds) for name, (y, p) in panels.items()})
    caption = f"Two hospitals, true labels, {len(which)} findings with enough cases; thresholds reached 80 % sensitivity on A's validation X-rays"
    util.show_table(judged, caption, chest.source)

    areas = {
        name: util.auroc_intervals(y, p, who, FINDINGS, np.random.default_rng(0)).iloc[which]
        for name, (y, p), who in zip(panels, panels.values(), [test["Patient ID"], table_b["Patient ID"][there]], strict=False)
    }
    fig = util.plot_two_hospitals(areas, {name: (y[:, which], p[:, which]) for name, (y, p) in list(panels.items())[:3]})
    util.sign_figure(fig, chest.source)
else:
    print("Left out: this folder holds X-rays of one source. With a second one, read it here as `chest_b`.")

# %% [markdown]
# *Figure 16. The network at hospital A, where it was trained, and at hospital B (simulated data only). Left: AUROC of each finding with 95 % intervals.
# Right: reliability, all findings together, before and after recalibrating on B's own X-rays; dotted: words and facts agree.*
#
# **What recalibrating can mend** stands in the rows below AUROC: intercept and slope (towards 0 and 1), the mean probability (towards the share with
# the finding) and with them what the old thresholds mean. Look whether it did. It was fitted on few X-rays, with report-derived labels that miss some
# findings and invent others: where the network was nearly right already, such a correction may bring more noise than it takes away. Before
# recalibrating, measure; and say on how many X-rays, and on whose labels, it rests.
#
# **What it does not mend**: the row AUROC is the same before and after. Where the network takes B's exposure, markers or bedside X-rays for
# signs, or misses signs in them, no shift of probabilities brings them back. That takes X-rays of B in the training, or an input that is less
# foreign: the last column standardises each X-ray by itself (section 1.4). Nor does it mend any finding that has too few cases for judging.
#
# **Summary.** Report each finding with its number of positives and an interval by patient. A mean over findings is a
# headline, not a result: it hides the finding that fails. Elsewhere everything has to be measured again: order, calibration, and what the thresholds do.
#
# *Further exercises.* (1) ★ Which finding lost most at B? Is its interval narrow enough to say so? (2) ★★ Recalibrate with the true labels
# (`y_b`) of half of B's test X-rays and judge on the other half. What is better? (3) ★★ Train a new head on the 60 X-rays of B alone. Does it beat
# A's network there?
#
# <details><summary>Answers</summary>
#
# (1) Compare the two columns of Figure 16; as the patients are different ones, look at both intervals: with few positives, a difference of 0.1 may be
# luck. (2) The intercept: the report-derived labels miss some findings and invent others. (3) Probably not: see the left end of
# Figure 12.
# </details>

# %% [markdown]
# ## 1.8 The reading game
#
# *15 minutes. The question: would you have seen it?*
#
# A ROC curve means more to those who have been a point on it. Below are twenty test X-rays, drawn at random. Some of them, more than
# six and fewer than fourteen, show a **pleural effusion**: fluid between lung and chest wall. (In a clinic far fewer would; sensitivity
# and specificity do not mind.) In a standing patient the fluid collects at the bottom: the angle between diaphragm and ribs, sharp and
# dark in the healthy, is filled with white, and a white layer may climb the chest wall. In a patient in bed it spreads along the back
# and lays a grey veil over the lung. You see twice the resolution that the network has.

# %%
GAME = "Effusion"  # the finding to look for
game_class = FINDINGS.index(GAME)
rng = np.random.default_rng(20)
with_it, without_it = (rng.permutation(np.flatnonzero(y_test[:, game_class] == value)) for value in (1, 0))
n_with = min(rng.integers(7, 14), len(with_it))
played = rng.permutation(np.concatenate([with_it[:n_with], without_it[: 20 - n_with]]))
game_films = [picture(row) for row in test.index[played]]
util.show_films(game_films, range(1, len(played) + 1), chest.source, columns=7)

# %% [markdown]
# *Figure 17. Twenty test X-rays, numbered; some show the finding. Write down the numbers before you run the next cell.*
#
# <details><summary>Predict first: will you be better than the network? And will twenty X-rays be enough to tell?</summary>
#
# Perhaps. But twenty X-rays are too few to tell: look at how long the bars of Figure 18 are.
# </details>

# %%
game_threshold = util.youden_threshold(labels[valid.index, game_class], valid_pred[:, game_class])
bases = np.array([film[film.shape[0] // 2 :].mean() - film[: film.shape[0] // 2].mean() for film in game_films])


def score_reading(answers):
    """Show a reader's answers beside the network's."""
    fig = util.plot_reading(y_test[:, game_class], test_pred[:, game_class], game_threshold, played, answers)
    util.sign_figure(fig, chest.source)


util.mark(len(played), f"Mark the X-rays that show {GAME}:", bases > np.median(bases), score_reading)

# %% [markdown]
# *Figure 18. Left: the network's ROC curve for the same finding, the network at the threshold chosen on the validation X-rays (square) and
# the reader (dot) with 95 % intervals (Wilson). Right: the answers one by one, wrong ones in red. In Jupyter the reader is you. Without a
# person a rule reads: "yes" for the ten X-rays whose lower half is brightest compared with the upper half.*
#
# Sensitivity rests on the X-rays with the finding, specificity on those without: some ten each. That is why the bars are long, and why a
# *reader study* needs several hundred X-rays and several readers. Mind also that the truth here is known; for real X-rays it would be the
# opinion of other readers.
#
# **Summary.** A reader is one point, a network a curve of points. A point above the curve is better than the network, if its interval
# says so.
#
# *Further exercises.* (1) ★ Play again with `GAME = "Nodule"`, then with `"Cardiomegaly"`. (2) ★★ Read the same X-rays again tomorrow.
# What does Cohen's kappa (notebook 2) say about you and yourself? (3) ★★ For how many X-rays with the finding would the upright bar be
# shorter than 0.1?
#
# <details><summary>Answers</summary>
#
# (1) Nodules are small: you will miss more of them, and so does a network that sees 128 pixels. A large heart is easy for both.
# (2) That it is below 1: nobody always agrees with himself, radiologists included. (3) The bar is about
# $2 \cdot 1.96 \sqrt{s(1-s)/n}$ long: with a sensitivity $s$ of 0.8 about 250 (exercise `positives_needed` of notebook 2).
# </details>

# %% [markdown]
# ## 1.9 GradCAM: where did it look?
#
# *30 minutes. The question: which part of the X-ray spoke for the finding?*
#
# GradCAM (Selvaraju et al., ICCV 2017) asks of a convolutional layer: which of its maps speak for the class, and where are
# these maps active?
#
# 1. Run the X-ray through the network; keep the maps $A^k$ of the chosen layer and the class's score $s$.
# 2. The weight of map $k$ is the mean gradient of the score over its pixels:
#    $\alpha_k = \frac{1}{Z}\sum_{i,j} \partial s / \partial A^k_{ij}$.
# 3. The heat map is $\text{ReLU}\big(\sum_k \alpha_k A^k\big)$: keep only what speaks *for* the class.
# 4. Enlarge it to the X-ray's size and divide by its maximum.
#
# **The score is the logit, not the sigmoid's output.** Where the network is sure, the sigmoid is flat and its gradient
# nearly zero: the surest predictions would get an empty or noisy map. Our models have a layer named `logits` for that.
#
# ### Exercise 5: `grad_cam` (40 points)
#
# * `model`: a network with layers `logits` (before the sigmoid) and `layer_name`
# * `image`: one standardised X-ray (height, width, channels)
# * return an array (height, width) between 0 and 1; **all zeros when nothing speaks for the class**
#
# <details><summary>Hint 1</summary>
#
# `keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer("logits").output])` gives both at once.
# </details>
# <details><summary>Hint 2</summary>
#
# Inside `with tf.GradientTape() as tape:` call that model on `image[np.newaxis]`; afterwards `tape.gradient(score, maps)`.
# `tf.image.resize` enlarges. Beware of dividing by a maximum of 0.
# </details>


# %% exercise="grad_cam"
def grad_cam(model, image, class_index, layer_name):
    """Heat map of what speaks for a class (GradCAM; Selvaraju et al., ICCV 2017).

    Parameters
    ----------
    model : keras.Model
        With a layer ``logits`` that holds the scores before the sigmoid.
    image : ndarray, (height, width, channels)
        Standardised as the model expects it.
    class_index : int
    layer_name : str
        Convolutional layer to look at.

    Returns
    -------
    ndarray, (height, width)
        In [0, 1]; 0 everywhere when nothing speaks for the class.
    """
    ### BEGIN SOLUTION
    watched = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        maps, logits = watched(image[np.newaxis], training=False)
        score = logits[0, class_index]
    gradient = tape.gradient(score, maps)
    alpha = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    heat_map = tf.nn.relu(tf.reduce_sum(alpha * maps, axis=-1, keepdims=True))
    heat_map = tf.image.resize(heat_map, image.shape[:2]).numpy()[0, :, :, 0]
    highest = heat_map.max()
    return heat_map / highest if highest > 0 else heat_map
    ### END SOLUTION


# %% check="grad_cam" points=40
public_tests.grad_cam_test(grad_cam)

# %% [markdown]
# Now for X-rays whose finding is known *with its place*: the boxes. For four findings, the test X-ray with a box on which the network is
# surest.

# %% tags=["example"] picture=[0, 0, 0.495, 0.91]
LAYER = "relu"  # the last convolutional activation: a coarse grid, but the one that the classifier sees
boxed = chest.boxes[["Image Index", "Finding"]].drop_duplicates()
boxed["row"] = boxed["Image Index"].map(pd.Series(table.index, index=table["Image Index"]))
boxed = boxed[boxed["row"].isin(test_all.index)].astype({"row": int}).reset_index(drop=True)
boxed["class"] = [FINDINGS.index(finding) for finding in boxed["Finding"]]
boxed["output"] = test_all_pred[test_all.index.get_indexer(boxed["row"]), boxed["class"]]


def boxes_of(case):
    """The boxes of a case's finding on its X-ray."""
    return chest.boxes[(chest.boxes["Image Index"] == case["Image Index"]) & (chest.boxes["Finding"] == case["Finding"])]


def explain(case, layer=LAYER):
    """GradCAM of a case's finding on its X-ray."""
    return np.asarray(grad_cam(model, standardize_films(films[[case["row"]]], mean, sd)[0], case["class"], layer))


surest = boxed.sort_values("output", ascending=False).drop_duplicates("Finding").drop_duplicates("row").head(4)
cases = [case for _, case in surest.iterrows()]
heat_maps = [explain(case) for case in cases]
if cases:
    util.show_films(
        [picture(case["row"]) for case in cases],
        [f"{util.readable(case['Finding'])}: {case['output']:.2f}" for case in cases],
        chest.source,
        columns=4,
        boxes=[boxes_of(case) for case in cases],
        heat_maps=heat_maps,
    )
else:
    print("No test X-ray here has a box.")

# %% [markdown]
# *Figure 19. GradCAM of four findings (bright: speaks for the finding) with the box of the finding in blue and the network's output above.
# These are the X-rays on which it is surest, so they flatter it.*
#
# The smooth clouds are an illusion: this layer has only a few cells each way, and enlarging has blurred them. From here on maps are shown
# and judged as the cells that they are. At this layer they can be had without a gradient: what follows it is a mean over the cells and
# one weight for each map, so the gradient is the same in every cell, and the heat map is the sum of the maps times the weights of the class
# (CAM; Zhou et al., CVPR 2016). One forward pass then serves many X-rays. Before the ReLU, the mean of the cells plus the bias *is* the logit:
# such a map shares the answer out among the places.


# %%
watched = keras.Model(front.output, model.get_layer(LAYER).output)  # from `frozen` to the maps: the last block only


def cells_of(maps, classes, network=model):
    """Heat maps of the last layer as raw cells before the ReLU, (n, rows, columns): its maps (n, rows, columns, maps) times weights."""
    weights = network.get_layer("logits").get_weights()[0][:, classes]
    return np.einsum("nijk,kn->nij", maps, weights)


def outputs_of(cells, classes):
    """The network's output for a class, from the cells of X-rays: the sigmoid of their mean plus the bias."""
    return 1 / (1 + np.exp(-cells.mean(axis=(1, 2)) - model.get_layer("logits").get_weights()[1][classes]))


if cases:
    cells = cells_of(watched.predict(frozen[surest["row"]], verbose=0), surest["class"])
    alike = np.corrcoef(util.by_cells(np.array(heat_maps), cells.shape[1:])[0].ravel(), np.maximum(cells[0], 0).ravel())[0, 1]
    print(f"A map has {cells.shape[1]} × {cells.shape[2]} cells; correlation of grad_cam's first with its raw cells: {alike:.2f}.")
    print("Outputs from the cells:", ", ".join(f"{p:.2f}" for p in outputs_of(cells, surest["class"])))

# %% [markdown]
# **Summary.** GradCAM weighs the maps of a layer by the mean gradient of the logit. It shows where a network looked, coarsely, and always
# looks convincing. Whether it is right is another question: the next section has the truth to compare it with.
#
# *Further exercises.* (1) ★ GradCAM the sigmoid in place of the logit. What is left of the surest X-rays? (2) ★★ Leave the ReLU out and
# colour what is negative blue. What do these cells say?
#
# <details><summary>Answers</summary>
#
# (1) Divided by its maximum the map stays the same, until the output rounds to 1: then the gradient is 0 and the map is empty. (2) They
# speak against the finding: an output is the sum of all cells, for and against.
# </details>

# %% [markdown]
# ## 1.10 Counterfactual twins: the true map
#
# *25 minutes. The question: does the heat map show the finding, or a place where such findings often are?*
#
# For a patient nobody knows which pixels are there *because of* the finding; a box is a reader's guess. A **simulated** patient can be X-rayed
# twice, with the same body, position, exposure and noise, once with the finding and once without. The difference of the two X-rays is the
# **true map**. Beside it stand three explanations of the network's answer:
#
# * **GradCAM** of the last layer, as its raw cells;
# * GradCAM of a **finer layer**, in front of the last block: more cells, but the network goes on calculating after it;
# * **occlusion** (Zeiler and Fergus, ECCV 2014): cover a part of the X-ray with a grey square and see how far the logit falls. No gradient, no
#   layer, one prediction for every place.

# %%
FINER = "conv4_block24_concat"
simulated = chest.source == "simulated"
if simulated:
    from data.chest_simulator.cohort import simulate_twins


def occlusion(film, class_index, side=32, step=16):
    """How far the logit falls when a grey square covers a place: (size, size), mean over the squares that cover a pixel."""
    corners = [(top, left) for top in range(0, CHEST_SIZE - side + 1, step) for left in range(0, CHEST_SIZE - side + 1, step)]
    covered = np.repeat(film[np.newaxis], 1 + len(corners), axis=0)
    for one, (top, left) in zip(covered[1:], corners):
        one[top : top + side, left : left + side] = film.mean()
    p = util.clip_probabilities(predict_films(model, covered, mean, sd, what="occlusion")[:, class_index])
    score = np.log(p / (1 - p))
    fall, times = np.zeros((2, CHEST_SIZE, CHEST_SIZE))
    for after, (top, left) in zip(score[1:], corners):
        fall[top : top + side, left : left + side] += score[0] - after
        times[top : top + side, left : left + side] += 1
    return fall / times


def median_case(finding):
    """The test X-ray with the finding whose output is in the middle."""
    of_finding = boxed[boxed["Finding"] == finding].sort_values("output")
    return of_finding.iloc[len(of_finding) // 2]


evidence = []
for finding in ["Mass", "Nodule", "Pneumonia", "Edema"][: 4 if simulated else 0]:
    case = median_case(finding)
    film, twin, _ = simulate_twins(DATA_DIR, case["Image Index"], finding)
    both = np.stack([films[case["row"]], fit_square(twin, CHEST_SIZE)])
    maps = watched(front(standardize_films(both, mean, sd), training=False), training=False).numpy()
    cells = cells_of(maps, [case["class"]] * 2)
    with_it, without_it = outputs_of(cells, case["class"])
    evidence.append(
        {
            "": f"{finding}\noutput {with_it:.2f}, twin {without_it:.2f}",
            "with the finding": film,
            "twin without it": twin,
            "difference: the truth": film.astype(float) - twin,
            "GradCAM, raw cells": (film, cells[0]),
            "GradCAM, finer layer": (film, explain(case, FINER)),
            "occlusion": (film, occlusion(films[case["row"]], case["class"])),
        }
    )
if simulated:
    util.sign_figure(util.show_evidence(evidence), chest.source)
else:
    print("Only simulated patients have a twin: with DATA_DIR = None four of them are drawn here.")

# %% [markdown]
# *Figure 20. Four findings, each on the X-ray whose output is the median of its finding. Third column: red where the finding makes the X-ray
# whiter, blue where darker. Then three explanations of the network's answer; the brightest place of each map is its maximum, however small that
# is, and a map without colour is empty: nothing speaks for the finding. The edema of the last row is nearly everywhere: no point can miss it, and none can hit it. (Drawn for simulated X-rays only.)*
#
# ### Score it: the pointing game
#
# Pretty pictures convince too easily. In the **pointing game** (Zhang et al., IJCV 2018) a heat map scores when its highest cell is where the
# finding is. Three rules keep it honest:
#
# * **Focal findings only.** A box over both lungs, as those of edema, emphysema or a large heart, is hit by pointing at the middle of any chest.
#   We play with mass, nodule, pneumonia and consolidation.
# * **Baselines.** A cell drawn at random; the map of *another* X-ray with the same finding (findings have favourite places, which is not
#   seeing); and, for simulated patients, the map of the **twin without the finding**: what the network points at in this very chest when there
#   is nothing to point at.
# * **An interval**, by patient.
#
# We take the highest cell before the ReLU, so that an empty map points somewhere too.
#
# <details><summary>Predict first: the network is often right about pneumonia. Must its map then point at the pneumonia?</summary>
#
# No. What goes along with pneumonia (a patient in bed, a device, the exposure) predicts it too. The map of the twin without the finding tells:
# what points at the right place without the finding there has not seen the finding.
# </details>

# %%
FOCAL = ["Mass", "Nodule", "Pneumonia", "Consolidation"]
focal = boxed[boxed["Finding"].isin(FOCAL)]
focal = focal.sample(min(len(focal), 12 if QUICK else 60), random_state=2).reset_index(drop=True)
patients = table.loc[focal["row"], "Patient ID"]
cells = cells_of(watched.predict(frozen[focal["row"]], verbose=0), focal["class"]) if len(focal) else np.zeros((0, 1, 1))
aims = {"hits a cell of the box": [util.touched_cells(boxes_of(case), cells.shape[1:]) for _, case in focal.iterrows()]}
others = {}
if simulated:
    names = util.progress(list(zip(focal["Image Index"], focal["Finding"])), "twins", unit="X-ray")
    twins = np.stack([fit_square(simulate_twins(DATA_DIR, *name)[1], CHEST_SIZE) for name in names])
    twin_maps = watched.predict(predict_films(front, twins, mean, sd, what="twins seen by the network"), verbose=0)
    twin_cells = cells_of(twin_maps, focal["class"])
    true_maps = util.by_cells(np.abs(films[focal["row"]].astype(float) - twins), cells.shape[1:])
    aims["share of the true map in the cell"] = true_maps / true_maps.sum(axis=(1, 2), keepdims=True)
    others["map of the twin without the finding"] = twin_cells

games = {name: util.pointing_game(cells, aim, focal["Finding"], others) for name, aim in aims.items()} if len(focal) else {}
pointing = {name: util.mean_table(game, patients, np.random.default_rng(0)) for name, game in games.items()}
if games:
    util.sign_figure(util.plot_pointing(pointing), chest.source)
empty = (cells.max(axis=(1, 2)) <= 0).sum() if len(focal) else 0
print(f"{len(focal)} test X-rays of {patients.nunique()} patients; {empty} of the maps are empty after the ReLU.")

# %% [markdown]
# *Figure 21. The pointing game on focal findings: mean and 95 % interval (patients drawn). Left: how often the highest cell is one of the box.
# Right, for simulated X-rays: which share of the whole true map lies in that cell. The last row is what blind pointing gets.*
#
# Small boxes in a coarse grid: compare with the baselines, not with 1. And compare by the *difference*, on the same patients:

# %%
if simulated:
    gained = {name: game["its map"] - game["map of the twin without the finding"] for name, game in games.items()}
    gained = util.mean_table(gained, patients, np.random.default_rng(0))
    util.show_table(gained, "Its map minus that of its twin, with 95 % interval", chest.source, 2)
    hits = games["hits a cell of the box"]["its map"]
    response = util.response_table(
        focal["Finding"], outputs_of(cells, focal["class"]), outputs_of(twin_cells, focal["class"]), hits
    )
    util.show_table(response, "What the network makes of taking the finding away", chest.source, 2)

# %% [markdown]
# The second table asks a question that is better than any heat map: *does the output fall when the finding is taken away?* That is cause and
# effect, and it needs no explanation method, only a twin. Where the output falls in nearly all pairs and the map still points elsewhere, the
# network uses the finding and the map is at fault. Where the output hardly moves, the network gets its AUROC from something that goes along
# with the finding.
#
# **Summary.** Score heat maps on findings that have a place, at the map's own grid, against blind pointing and with an interval. A map in the
# right place is evidence only if it leaves that place when the finding does.
#
# *Further exercises.* (1) ★ Add `"Effusion"` and `"Edema"` to `FOCAL`. Why does the last row of Figure 21 rise as well? (2) ★★ Give a healthy
# X-ray a mass: `simulate_twins(DATA_DIR, name, "Mass", severity=0.8)`. From which severity does the output rise? (3) ★★ Play the game with the
# finer layer: is its higher resolution worth anything?
#
# <details><summary>Answers</summary>
#
# (1) Their boxes touch many cells, so blind pointing hits too: the score rises and says less. (2) Draw the output over the severity; where it
# begins to rise is the network's limit of detection for this patient. (3) `util.by_cells(explain(case, FINER)[np.newaxis], (8, 8))` gives its
# cells. Finer maps are often less faithful: between that layer and the answer the network still moves information from place to place.
# </details>

# %% [markdown]
# ## 1.11 A sanity check: randomise the network
#
# *10 minutes. The question: does the map depend on what the network has learned?*
#
# A heat map that explains the network must change when the network changes. Adebayo et al. (NeurIPS 2018) found methods whose maps hardly change
# when all weights are replaced by random ones: they draw edges of the image, not reasons. We randomise the last layer, then the last block too,
# then everything, and compare the cells with those of the trained network by rank correlation: 1 means that the map ignores the network. (Maps
# that were enlarged first agree whatever they show, because neighbouring pixels do.) An empty map has no ranks: these are counted, not correlated.

# %%
checked = boxed.sample(min(len(boxed), 10 if QUICK else 40), random_state=3)
other = densenet121(CHEST_SIZE, weights=None)  # new random weights everywhere
other_watched = keras.Model(other.input, other.get_layer(LAYER).output)
if len(checked):
    checked_input = standardize_films(films[checked["row"]], mean, sd)
    trained_maps = watched.predict(frozen[checked["row"]], verbose=0)
    variants = {"last layer random": cells_of(trained_maps, checked["class"], other)}
    all_random = cells_of(other_watched.predict(checked_input, verbose=0), checked["class"], other)
    for layer, original in zip(other.layers, model.layers):
        if not layer.name.startswith(("conv5", "logits")):
            layer.set_weights(original.get_weights())
    variants["last block and layer random"] = cells_of(other_watched.predict(checked_input, verbose=0), checked["class"], other)
    variants["everything random"] = all_random
    fig = util.plot_rank_agreement(cells_of(trained_maps, checked["class"]), variants)
    util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 22. Rank correlation of each X-ray's heat map with that of the trained network; a dot is an X-ray, the bar the median. In brackets
# how many of the maps are empty, in one network or the other.*
#
# <details><summary>Why are correlations far from 0 possible, even with everything random?</summary>
#
# Both networks see the same X-ray, and what is active in a random network is where the X-ray is bright or has edges; so is what a trained one
# finds interesting. With so few cells, single correlations also scatter widely by chance: look at the median.
# </details>
#
# **Summary.** Before a map is believed it must fail when the network is broken. Correlate at the native grid, and count empty maps apart.
#
# *Further exercise.* ★★ Compare the trained network's map with that for *another finding* on the same X-ray. How alike may they be?
#
# <details><summary>Answer</summary>
#
# `cells_of(trained_maps, (checked["class"] + 1) % 14)`. Findings that go together may share their place; if all fourteen maps are
# alike, the maps show where the X-ray is interesting, not what speaks for the class.
# </details>

# %% [markdown]
# ## 1.12 A shortcut, exposed
#
# *15 minutes. The question: how does one notice that a network is right for the wrong reason?*
#
# In many hospitals the ward's portable machine burns its own letter into the X-ray, and the ward has sicker patients. Zech et
# al. (PLOS Medicine 2018) found networks that read the letter. We stage it: a letter on nearly all *training* X-rays with one
# finding and on few of those without, and a small network that learns from scratch. Nobody tells it what to look at, so it
# takes the easiest way. Its **control** is the same network, from the same start, with the same X-rays in the same order, without letters.
# Both are scored on test X-rays with the letter as in training, without any, and with the letter on the wrong X-rays.

# %%
staged = "Effusion"
staged_class = FINDINGS.index(staged)
rng = np.random.default_rng(7)


def mark(rows, y, with_finding, without_finding):
    """X-rays `rows`, stamped with the given probabilities where `y` says the finding is there, and where not."""
    chosen = rng.random(len(rows)) < np.where(y == 1, with_finding, without_finding)
    marked = films[rows].copy()
    marked[chosen] = util.stamp_marker(marked[chosen])
    return marked


has_it = labels[train.index, staged_class] == 1  # as many X-rays without the finding as with it
rows = np.concatenate([train.index[has_it], rng.choice(train.index[~has_it], has_it.sum(), replace=False)])
rows = rng.permutation(rows)
y_rows = labels[rows, staged_class]


def train_small(images):
    """A small network, trained from scratch on these versions of the X-rays `rows`; always from the same start."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((CHEST_SIZE, CHEST_SIZE, 1))
    hidden = keras.layers.AveragePooling2D(2)(inputs)
    hidden = keras.layers.Conv2D(16, 5, strides=2, padding="same", activation="relu")(hidden)
    hidden = keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(hidden)
    hidden = keras.layers.Conv2D(64, 3, padding="same", activation="relu", name="last_conv")(hidden)
    logits = keras.layers.Dense(1, name="logits")(keras.layers.GlobalAveragePooling2D()(hidden))
    network = keras.Model(inputs, keras.layers.Activation("sigmoid")(logits))
    network.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy", jit_compile=False)
    network.fit(FilmBatches(images, y_rows[:, np.newaxis], mean, sd), epochs=15, verbose=0)
    return network


networks = {
    "trained with letters": train_small(mark(rows, y_rows, 0.95, 0.05)),
    "control: trained without": train_small(films[rows]),
}

# %%
test_rows = test.index.to_numpy()
y_staged = y_test[:, staged_class]
versions = {
    "letter as in training": mark(test_rows, y_staged, 0.95, 0.05),
    "no letter": films[test_rows],
    "letter on the others": mark(test_rows, y_staged, 0.05, 0.95),
    "letter on all": util.stamp_marker(films[test_rows]),
}
said = {
    name: {version: predict_films(network, marked, mean, sd, what=version)[:, 0] for version, marked in versions.items()}
    for name, network in networks.items()
}
scores = pd.DataFrame({name: {v: util.auroc(y_staged, p) for v, p in of_version.items()} for name, of_version in said.items()})
util.show_table(scores, f"AUROC for {staged} on the test X-rays", chest.source)
for name, of_version in said.items():
    change = np.median((of_version["letter on all"] - of_version["no letter"])[y_staged == 0])
    print(f"{name}: the letter changes the output for an X-ray without the finding by {change:+.2f} (median).")

# %%
without = test_rows[np.flatnonzero(y_staged == 0)[:4]]
stamped = util.stamp_marker(films[without])
stamped_input = standardize_films(stamped, mean, sd)
util.show_films(
    [*stamped, *stamped],
    [
        f"{name.split()[0].strip(':')}, output {p:.2f}"
        for name, network in networks.items()
        for p in network(stamped_input).numpy()[:, 0]
    ],
    chest.source,
    columns=4,
    heat_maps=[np.asarray(grad_cam(network, film, 0, "last_conv")) for network in networks.values() for film in stamped_input],
)

# %% [markdown]
# *Figure 23. Four X-rays without the finding, stamped with the letter: above explained by the network that was trained with letters, below
# by its control, which has never met one. A map that lights up around a letter, far from lungs and heart, is how GradCAM gives a shortcut
# away; the control tells whether it would not have lit up there anyway, because the letter is the brightest thing in the picture.*
#
# Three tests can find it, in rising order of strength: the heat map; the score on X-rays *without* the letter; and the **counterfactual**, the same
# X-ray with and without the letter, which costs a few lines and works for real patients too. A test set from the same hospital finds
# nothing: there the letter works.
#
# **Summary.** Use heat maps to suspect a shortcut and changed X-rays to prove it. No heat map proves that a network is right: one in the right
# place may still come from the wrong reason.
#
# *Further exercises.* (1) ★ Make the letter rarer on X-rays with the finding (0.95, 0.8, 0.65 …). When does the network stop caring? (2) ★★ Give
# half of the training X-rays of *both* kinds a letter. Why does that cure the network?
#
# <details><summary>Answers</summary>
#
# (1) When the finding itself is as easy to learn as the letter is reliable; there is no sharp limit. (2) The letter then says nothing about the
# finding, so there is nothing to gain from it. That is what augmentation is for; but one must have thought of the letter.
# </details>

# %% [markdown]
# ## 1.13 Predictions for notebook 2
#
# *5 minutes. The question: what does an evaluation need?*
#
# The outputs of all three sets, with labels and patients, go into three tables. Set `DATA_DIR` in notebook 2 to this
# folder to evaluate *your* model there (by default it has tables that the course ships).


# %%
def prediction_table(part, y, p, mined=None):
    """One split as notebook 2 reads it."""
    about = part[["Image Index", "Patient ID", "Patient Age", "Patient Gender", "View Position"]].reset_index(drop=True)
    return PredictionTable(about.astype({"Patient ID": str}), y, p.astype(float), mined)


tables = {
    "train": prediction_table(train, labels[train.index], train_pred),
    "valid": prediction_table(valid, labels[valid.index], valid_pred),
    "test": prediction_table(test, y_test, test_pred, test[FINDINGS].to_numpy()),
}
folder = COURSE / "build" / "predictions"
write_predictions(folder, tables, simulated=chest.source == "simulated")
print(f"{', '.join(f'{len(part):,} {name}' for name, part in tables.items())} rows in {folder.relative_to(COURSE)}/")

# %% [markdown]
# **Summary.** What leaves this notebook is small: for each X-ray its labels, its patient and fourteen numbers. Everything that
# an evaluation needs is in there, and the evaluation can be repeated without the X-rays.

# %% [markdown]
# ## 1.14 What these numbers do not prove
#
# *5 minutes. The question: what would you still want to know before a patient meets this network?*
#
# * **Simulated X-rays prove nothing about patients.** They let you learn the craft without a download; the numbers of a
#   clinic come from its own patients.
# * An AUROC on one hospital's X-rays says little about the next one's: other machines, other patients, other prevalences.
# * **Do not learn radiology from the simulated X-rays.** They show the textbook sign of each finding and little else. A simulated pneumothorax,
#   for one, is a wide dark crescent in a healthy lung; real ones are often narrow, drained, and seen after an operation.
# * Report-derived labels are partly wrong; a network trained on them learns the text program's habits too.
# * No number here says that anybody was helped. That takes a study with patients and outcomes.
#
# **Summary.** You have prepared and looked at chest X-rays, split them by patient, weighted the loss, transferred a
# DenseNet121, scored it with intervals and questioned it with GradCAM. Notebook 2 turns its outputs into decisions.

# %%
public_tests.summary()

# %%
util.headline(
    {
        "mean AUROC": test_mean,
        "mean AUROC, report-derived labels": report_mean,
        "pointing game": games["hits a cell of the box"]["its map"].mean() if games else np.nan,
        "leakage, AUROC gained": leaky.mean() - honest.mean(),
    },
    chest.source,
)
