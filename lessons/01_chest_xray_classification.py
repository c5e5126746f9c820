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
# You will learn to
#
# * prepare and look at a chest X-ray data set before any model sees it,
# * keep a patient from standing in both the training and the validation set, and measure what it costs when one does,
# * weight the loss when most X-rays show nothing,
# * transfer a DenseNet121 to new X-rays with little data and little time,
# * score it per finding, with the uncertainty that a small test set leaves,
# * ask with GradCAM *where* the network looked, and catch it when it looked at the wrong thing.
#
# **Time:** about two hours with the exercises; three minutes to run. **Points:** 100.
# **You should know** Python, NumPy and what a convolutional network is. Notebook 02 takes up the predictions that this one writes.
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
import seaborn as sns
import tensorflow as tf
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import public_tests
import util
from data import nih
from data.prediction_tables import PredictionTable, write_predictions
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

print(f"{len(films):,} films of {table['Patient ID'].nunique():,} patients ({chest.source})")
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
#
# **Summary.** X-rays and tables are read from one public folder format. A label is somebody's or some program's opinion;
# know whose.

# %% [markdown]
# ## 1.2 Look before you model
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
# *Figure 1. Ten X-rays drawn at random, with their report-derived labels. The patient faces you: the heart is on the right of the
# picture. Can you see what the label says? On many X-rays you cannot, and that is normal: some findings are subtle, and
# some labels are wrong.*

# %%
labels = table[FINDINGS].to_numpy()
counts = table.groupby("split")[FINDINGS].sum().T.sort_values("train_val")
shares = counts / table.groupby("split").size()

fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True)
counts.plot.barh(ax=left, width=0.8, legend=False)
left.set_xlabel("films")
(100 * shares).plot.barh(ax=right, width=0.8)
right.set_xlabel("prevalence in the split, % (report-derived labels)")
right.legend([f"{name}: {n:,} films" for name, n in table.groupby("split").size()[shares.columns].items()], loc="lower right")
left.set_yticks(range(len(counts)), [name.replace("_", " ") for name in counts.index])
left.set_ylabel("")
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 2. How many X-rays carry each finding, and which share of the X-rays that is (the prevalence), for both parts of
# the official split. Rare findings have a handful of X-rays to learn from; and where the two parts differ, the data were
# not drawn alike.*

# %%
together = pd.DataFrame(labels, columns=FINDINGS)
conditional = together.T.dot(together) / together.sum().clip(lower=1).to_numpy()[:, np.newaxis]
names = [name.replace("_", " ") for name in FINDINGS]
fig, ax = plt.subplots(figsize=(8.4, 6.4))
sns.heatmap(
    100 * conditional,
    mask=np.eye(len(FINDINGS), dtype=bool),
    cmap="Blues",
    annot=True,
    fmt=".0f",
    annot_kws={"size": 8},
    xticklabels=names,
    yticklabels=names,
    cbar_kws={"label": "% of the row's X-rays"},
    ax=ax,
)
ax.set(xlabel="… also carry", ylabel="X-rays with …")
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 3. Co-occurrence: of the X-rays with the row's finding, how many per cent also carry the column's. Findings keep
# company (an effusion rarely comes alone), so a network may learn one finding by another's sign.*

# %%
films_of = table.assign(
    abnormal=labels.any(axis=1), **{"X-rays of the patient": table.groupby("Patient ID")["Image Index"].transform("size")}
)
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.2), width_ratios=[1.3, 1, 1.3])
if table["Patient Age"].notna().any():  # ChestMNIST does not tell it
    sns.histplot(
        table,
        x="Patient Age",
        hue="Patient Gender",
        bins=range(0, max(101, int(table["Patient Age"].max()) + 6), 5),
        multiple="stack",
        ax=axes[0],
    )
axes[0].set(xlabel="age, years", ylabel="films")
sns.barplot(films_of, x="View Position", y="abnormal", hue="Patient Gender", errorbar=None, ax=axes[1])
axes[1].set(xlabel="view", ylabel="share with any finding", ylim=(0, 1))
axes[1].legend(title="", loc="upper left", fontsize=8)
sizes = table.groupby("Patient ID").size()
axes[2].hist(sizes, bins=np.arange(0.5, min(sizes.max(), 20) + 1.5), color="C2")
axes[2].set(xlabel="X-rays of one patient", ylabel="patients", yscale="log")
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 4. Who was X-rayed: age and sex; how often an X-ray carries a finding, by view (AP X-rays are taken at the bedside,
# of patients too ill to stand) and sex; how many X-rays a patient has. A network that only recognises the bedside X-ray
# already predicts illness: the view is a **confounder**.*

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.3), width_ratios=[1, 1, 2])
axes[1].axis("off")
for ax, view in zip(axes[:2], sorted(table["View Position"].unique(), key=["PA", "AP", "unknown"].index)):
    of_view = films[(table["View Position"] == view).to_numpy()]
    ax.imshow(of_view.mean(axis=0), vmin=0, vmax=255)
    ax.set_title(f"mean of {len(of_view):,} {view} films")
    ax.axis("off")
    axes[2].hist(of_view.ravel()[::50], bins=np.arange(0, 257, 4), histtype="step", density=True, label=view)
axes[2].set(xlabel="grey level", ylabel="share of pixels", yticks=[])
axes[2].legend(title="view")
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 5. The mean X-ray of each view and the distribution of grey levels. Peaks at the very ends are collimated borders
# and burnt-in letters, not anatomy.*
#
# **Summary.** Findings are rare, unequally rare, and keep company; the sick are filmed in another view; a patient may have
# many X-rays. Each of these will matter below.
#
# *Further exercises.* Which finding is most tied to the AP view? Do patients with many X-rays carry more findings?

# %% [markdown]
# ## 1.3 Preventing data leakage
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
        One row a film.
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

# %%
# weights="imagenet" if you are online and want to compare
model = densenet121(CHEST_SIZE, weights="course")
backbone = keras.Model(model.input, model.get_layer("features").output)

mean, sd = films[train.index].mean(), films[train.index].std()
features = predict_films(backbone, films, mean, sd, what="features of all X-rays")


# %%
def mean_auroc(y, pred, least=5):
    """Mean AUROC over findings with at least `least` positives and as many negatives; nan if there is none."""
    enough = (y.sum(axis=0) >= least) & ((1 - y).sum(axis=0) >= least)
    return np.mean([util.auroc(y[:, k], pred[:, k]) for k in np.flatnonzero(enough)]) if enough.any() else np.nan


def score_splits(splitter, groups):
    """AUROC of the same linear model on each of the splitter's validation parts."""
    x, y = features[train_val.index], labels[train_val.index]
    scores = []
    for fit_rows, score_rows in splitter.split(x, groups=groups):
        linear = make_pipeline(StandardScaler(), Ridge(alpha=300.0)).fit(x[fit_rows], y[fit_rows])
        scores.append(mean_auroc(y[score_rows], linear.predict(x[score_rows])))
    return np.array(scores)


repeats = 4 if QUICK else 30
leaky = score_splits(ShuffleSplit(repeats, test_size=0.25, random_state=0), None)
honest = score_splits(GroupShuffleSplit(repeats, test_size=0.25, random_state=0), train_val["Patient ID"])

leakage = pd.DataFrame(
    {"mean AUROC": [leaky.mean(), honest.mean()], "sd over splits": [leaky.std(ddof=1), honest.std(ddof=1)]},
    index=["X-rays split at random (leaky)", "patients split at random"],
)
util.show_table(leakage, f"The same model on {repeats} random splits of each kind", chest.source)
print(f"Leakage makes this model look better by {leaky.mean() - honest.mean():+.3f} AUROC.", "It is not better by anything.")

# %%
fig, ax = plt.subplots(figsize=(8, 2.2))
ax.boxplot([honest, leaky], orientation="horizontal", tick_labels=["patients\nsplit", "X-rays split\n(leaky)"], widths=0.6)
ax.set_xlabel("mean AUROC on the validation part")
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 6. One model, two ways of splitting. The difference is not skill: it is patients recognised. How large it is
# depends on how many X-rays a patient has and on how much a model can remember.*
#
# **Summary.** Split by patient, check that you did, and distrust reports that do not say how they split.
#
# *Further exercises.* Replace `Ridge` by `sklearn.neighbors.KNeighborsRegressor(1)`, a model that only remembers. What
# happens to both numbers? And with a smaller `alpha`?

# %% [markdown]
# ## 1.4 An input pipeline
#
# **Standardise.** A network learns best from numbers around 0 with a spread around 1. So every pixel becomes
#
# $$ z = \frac{x - \mu_\text{train}}{\sigma_\text{train}} $$
#
# with the mean and standard deviation of the **training** X-rays, for the validation and test X-rays as well. Statistics of
# the test set would be a small leak (a model in use meets one X-ray at a time and has no test set to average), and
# standardising each X-ray by itself would throw away how bright it was.
#
# **Augment.** Turn, shift, scale and re-expose each training X-ray a little, a little differently in every epoch, and the
# network cannot learn the X-rays by heart. Which changes are allowed is a medical question. A patient may stand a little
# askew and the exposure varies: fine. But **do not mirror**: the heart is on the left, and a mirrored X-ray shows another
# (rare) condition, with the marker on the wrong side.

# %%
print(f"training films: mean {mean:.1f}, standard deviation {sd:.1f} grey levels")
for name, part in [("training", train), ("validation", valid), ("test", test_all)]:
    standardised = standardize_films(films[part.index], mean, sd)
    print(f"{name:>10}: {len(part):5,} films,", f"standardised to mean {standardised.mean():+.2f}, sd {standardised.std():.2f}")

example = films[train.index[0]]
rng = np.random.default_rng(0)
util.show_films([example] + [augment_film(example, rng) for _ in range(4)], ["as it is"] + ["augmented"] * 4, chest.source)

# %% [markdown]
# *Figure 7. One X-ray and four variants as the network may see it in four epochs. Had we cropped it hard or turned it by
# 40°, no radiologist would accept it as an X-ray; then a network need not either.*

# %%
batches = FilmBatches(films[train.index], labels[train.index], mean, sd, augment=True, seed=1)
x, y = batches[0]
print(f"{len(batches)} batches an epoch; one holds films {x.shape} {x.dtype} and labels {y.shape} {y.dtype}")

# %% [markdown]
# **Summary.** Statistics come from the training set alone. Augmentation may do to an X-ray what the next patient or the next
# exposure might do, and nothing else.

# %% [markdown]
# ## 1.5 Class imbalance
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
    """Share of positive and of negative films in each class.

    Parameters
    ----------
    labels : array of 0/1, shape (films, classes)

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

fig, axes = plt.subplots(1, 2, figsize=(10.5, 4), sharey=True)
places = np.arange(len(FINDINGS))
for ax, positive, negative, title in [
    (axes[0], freq_pos, freq_neg, "unweighted"),
    (axes[1], freq_pos * pos_weights, freq_neg * neg_weights, "weighted"),
]:
    total = np.maximum(positive + negative, 1e-12)
    ax.barh(places, 100 * positive / total, color="C1", label="positives")
    ax.barh(places, 100 * negative / total, left=100 * positive / total, color="C0", alpha=0.6, label="negatives")
    ax.axvline(50, color="k", lw=0.8, ls=":")
    ax.set(title=title, xlabel="share of the class's loss, %")
axes[0].set_yticks(places, names)
axes[0].invert_yaxis()
axes[1].legend(loc="lower right", frameon=True)
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 8. Who contributes to the loss of each class when the network has no opinion yet. Left: nearly all of it comes
# from X-rays without the finding. Right: after weighting, half and half in every class that has a positive at all.*
#
# **Summary.** Weights from the class frequencies give positives and negatives the same say in the loss. The price: outputs no longer mean
# probabilities. Notebook 02 shows that, and the cure.

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
# What the weights do, on four X-rays of which one is positive. Model A says 0.9 to all, model B says 0.1 to all; neither
# has looked at anything.

# %%
y_toy = np.array([[1.0], [0.0], [0.0], [0.0]], dtype="float32")
toy_pos, toy_neg = map(np.asarray, compute_class_freqs(y_toy))
toy_losses = {"plain": get_weighted_loss(np.ones(1), np.ones(1)), "weighted": get_weighted_loss(toy_neg, toy_pos)}
toy = pd.DataFrame(
    {
        name: {
            f"{model_name}: always {p}": float(
                loss(keras.ops.convert_to_tensor(y_toy), keras.ops.convert_to_tensor(np.full((4, 1), p, "float32")))
            )
            for model_name, p in [("A", 0.9), ("B", 0.1)]
        }
        for name, loss in toy_losses.items()
    }
)
util.show_table(toy, "Loss of two models that say the same to everybody", "worked example")

# %% [markdown]
# The plain loss prefers B, which is wrong on the one patient who matters. The weighted loss finds them equally useless.

# %% [markdown]
# ## 1.6 Transfer learning with DenseNet121
#
# A network with seven million weights cannot be trained on a thousand X-rays. But its early layers (edges, textures, shapes)
# serve for many tasks, so we take a network trained on other images and teach it our X-rays:
#
# 1. **Frozen.** All layers stay as they are; only the last one, one weight per feature and finding, is learned. As frozen
#    layers give the same output every time, we compute it once for all X-rays (we have: `features`) and train in seconds.
# 2. **Last block.** Then the last of the four dense blocks is unfrozen and trained with a small step, on augmented X-rays.
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
# **Step 1, frozen.** The last layer alone is a small model of its own, from features to findings.

# %%
head = keras.Sequential(
    [keras.Input((features.shape[1],)), keras.layers.Dense(len(FINDINGS), name="logits"), keras.layers.Activation("sigmoid")]
)
head.layers[0].set_weights(model.get_layer("logits").get_weights())  # start where the given weights left off
weighted_loss = get_weighted_loss(pos_weights, neg_weights)
as_it_came = head.predict(features[valid.index], verbose=0)

head.compile(keras.optimizers.Adam(3e-4), weighted_loss)
head_history = head.fit(
    features[train.index],
    labels[train.index],
    validation_data=(features[valid.index], labels[valid.index]),
    epochs=3 if QUICK else 12,
    batch_size=32,
    verbose=0,
    callbacks=[training_progress()],
)
model.get_layer("logits").set_weights(head.layers[0].get_weights())
after_head = head.predict(features[valid.index], verbose=0)

# %% [markdown]
# **Step 2, the last block.** The step is ten times smaller: large steps would wreck what the layers know. Batch
# normalisation layers stay frozen: their running statistics come from many thousand X-rays and ours are few.

# %%
for layer in model.layers:
    in_last_block = layer.name.startswith("conv5") and not isinstance(layer, keras.layers.BatchNormalization)
    layer.trainable = in_last_block or layer.name == "logits"
trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
print(f"{trainable:,} of {model.count_params():,} weights are trained")

model.compile(keras.optimizers.Adam(3e-5), weighted_loss, jit_compile=False)  # compiling would take longer than training
block_history = model.fit(
    batches,
    validation_data=FilmBatches(films[valid.index], labels[valid.index], mean, sd),
    epochs=1 if QUICK else 2,
    verbose=0,
    callbacks=[training_progress()],
)

# %%
fig, ax = plt.subplots(figsize=(8, 3.2))
n_head, n_block = len(head_history.history["loss"]), len(block_history.history["loss"])
for part, start, n in [(head_history, 0, n_head), (block_history, n_head, n_block)]:
    epochs = start + 1 + np.arange(n)
    ax.plot(epochs, part.history["loss"], "o-", ms=3, color="C0", label="training" if start == 0 else None)
    ax.plot(epochs, part.history["val_loss"], "o-", ms=3, color="C1", label="validation" if start == 0 else None)
ax.axvline(n_head + 0.5, color="k", lw=0.8, ls=":")
ax.text(n_head + 0.4, ax.get_ylim()[1], "last layer ", ha="right", va="top", fontsize=9)
ax.text(n_head + 0.6, ax.get_ylim()[1], " + last block", ha="left", va="top", fontsize=9)
ax.set(xlabel="epoch", ylabel="weighted loss")
ax.legend(loc="lower left")
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 9. Learning curves. Training below validation means learning by heart; when the validation curve turns up, stop.
# The training loss of the last stage is taken on augmented X-rays, during the epoch, so it may lie above the validation
# loss without anything being wrong.*

# %%
valid_pred = predict_films(model, films[valid.index], mean, sd, what="validation X-rays")
steps = pd.DataFrame(
    {"mean AUROC": [mean_auroc(labels[valid.index], p) for p in (as_it_came, after_head, valid_pred)]},
    index=["weights as they came", "last layer trained", "last block trained too"],
)
util.show_table(steps, "What each step brings, on the validation X-rays (report-derived labels)", chest.source)

# %% [markdown]
# **Summary.** Reuse layers; train the last one first, then the last block with a small step; watch a validation set of
# other patients. If a step brings nothing on validation, leave it out: more training is not more knowledge.
#
# *Further exercises.* Unfreeze everything. Try `weights="imagenet"` or `weights=None` in section 1.3 and compare the table.

# %% [markdown]
# ## 1.7 ROC curves and AUC, with their uncertainty
#
# The network is finished; now the test X-rays, once. We score against the **manual** reading where there is one.
#
# The area under the ROC curve (AUROC) is the probability that an X-ray with the finding gets a higher output than one
# without: 0.5 is a coin, 1.0 is perfect order. It needs no threshold. On few positives it is a rough estimate, so each
# one comes with a 95 % interval: we draw *patients* with replacement a thousand times and take the percentiles 2.5 and
# 97.5 of the AUROC (notebook 02 builds this bootstrap).

# %%
test_all_pred = predict_films(model, films[test_all.index], mean, sd, what="test X-rays")
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
util.show_table(results, f"AUROC with 95 % interval on {len(test):,} test films, {truth_name}", chest.source)

# %%
fig = util.plot_curve_grid("roc", y_test, test_pred, FINDINGS)
util.sign_figure(fig, chest.source)

# %% [markdown]
# *Figure 10. ROC curve of each finding: how many of the sick are found (up) at the price of how many false alarms (right).
# A curve with few positives climbs in large steps; each step is one X-ray with the finding.*

# %%
fig, ax = plt.subplots(figsize=(8, 4.4))
util.plot_intervals(ax, {truth_name: results})
ax.axvline(0.5, color="k", lw=0.8, ls=":")
ax.set_xlim(0.2, 1.02)
util.sign_figure(fig, chest.source)

enough = results["positives"] >= 5
test_mean = results.loc[enough, "AUROC"].mean()
mined_mean = mean_auroc(test_all[FINDINGS].to_numpy(), test_all_pred)
print(f"mean AUROC over {enough.sum()} findings with at least 5 positives: {test_mean:.3f} ({truth_name})")
print(f"the same model on the same split against the mined labels: {mined_mean:.3f}")

# %% [markdown]
# *Figure 11. AUROC with 95 % intervals. To compare two models on the same patients, do not look whether intervals overlap: bootstrap the
# difference (notebook 02, section 2.8).*
#
# **Summary.** Report each finding with its number of positives and an interval by patient. A mean over findings is a
# headline, not a result: it hides the finding that fails.

# %% [markdown]
# ## 1.8 GradCAM: where did it look?
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
# Now for X-rays whose finding is known *with its place*: the boxes. We take, for several findings, the X-ray with a box on
# which the network is surest.

# %% tags=["example"] picture=[0, 0, 0.505, 0.477]
LAYER = "relu"  # the last convolutional activation: a coarse grid, but the one that the classifier sees
position = pd.Series(table.index, index=table["Image Index"])
boxed = chest.boxes.assign(row=position.loc[chest.boxes["Image Index"]].to_numpy())
boxed = boxed[~boxed["row"].isin(train.index)]  # X-rays that were not trained on
boxed = boxed[["Image Index", "Finding", "row"]].drop_duplicates().reset_index(drop=True)
boxed_pred = predict_films(model, films[boxed["row"]], mean, sd, what="X-rays with boxes") if len(boxed) else np.zeros((0, 14))
boxed["class"] = [FINDINGS.index(finding) for finding in boxed["Finding"]]
boxed["output"] = boxed_pred[np.arange(len(boxed)), boxed["class"]]


def boxes_of(case):
    """The boxes of a case's finding on its X-ray."""
    return chest.boxes[(chest.boxes["Image Index"] == case["Image Index"]) & (chest.boxes["Finding"] == case["Finding"])]


def explain(model, case, layer=LAYER):
    """GradCAM of a case's finding on its X-ray."""
    return grad_cam(model, standardize_films(films[[case["row"]]], mean, sd)[0], case["class"], layer)


surest = boxed.sort_values("output", ascending=False).drop_duplicates("Finding").drop_duplicates("row").head(4 if QUICK else 8)
cases = [case for _, case in surest.iterrows()]
heat_maps = [explain(model, case) for case in cases]
if cases:
    util.show_films(
        [picture(case["row"]) for case in cases],
        [f"{case['Finding'].replace('_', ' ')}: {case['output']:.2f}" for case in cases],
        chest.source,
        columns=4,
        boxes=[boxes_of(case) for case in cases],
        heat_maps=heat_maps,
    )

# %% [markdown]
# *Figure 12. GradCAM of several findings (bright: speaks for the finding) with the box of the finding in blue and the
# network's output above. These are the X-rays on which it is surest, so they flatter it; the score below does not.*
#
# ### Score it: the pointing game
#
# Pretty pictures convince too easily. In the **pointing game** (Zhang et al., IJCV 2018) a heat map scores when its highest
# point lies in the box. Two baselines tell what that is worth: a point anywhere on the X-ray, and the heat map of *another*
# X-ray with the same finding (findings have favourite places, which is not seeing).

# %%
rng = np.random.default_rng(5)
played = boxed.sample(min(len(boxed), 10 if QUICK else 42), random_state=2).reset_index(drop=True)
maps = [explain(model, case) for _, case in util.progress(list(played.iterrows()), description="pointing game", unit="film")]
hits = [util.points_into_box(heat, boxes_of(case)) for heat, (_, case) in zip(maps, played.iterrows())]
areas, other_hits = [], []
for number, case in played.iterrows():
    boxes = boxes_of(case)
    areas.append((boxes["w"] * boxes["h"]).sum())
    others = [k for k in played.index[played["Finding"] == case["Finding"]] if k != number]
    other_hits += [util.points_into_box(maps[k], boxes) for k in others]

pointing = (
    pd.DataFrame(
        {
            "share in the box": [np.mean(hits), np.mean(other_hits) if other_hits else np.nan, np.mean(areas)],
            "tries": [len(hits), len(other_hits), len(areas)],
        },
        index=["this X-ray's heat map", "heat map of another X-ray with the finding", "any point of the X-ray"],
    )
    if len(played)
    else pd.DataFrame({"share in the box": [np.nan], "tries": [0]}, index=["no X-ray with a box"])
)
util.show_table(pointing, "The pointing game", chest.source, precision=2)

# %% [markdown]
# ### A sanity check: randomise the network
#
# A heat map that explains the network must change when the network changes. Adebayo et al. (NeurIPS 2018) found methods
# whose maps hardly change when all weights are replaced by random ones: they draw edges of the image, not reasons. We
# randomise first the last layer, then everything, and compare the maps by rank correlation.


# %%
def randomised(only_last_layer):
    """A copy of the network with random weights: in the last layer only, or everywhere."""
    other = densenet121(CHEST_SIZE, weights=None)  # new random weights
    if only_last_layer:
        for layer, original in zip(other.layers, model.layers):
            if layer.name != "logits":
                layer.set_weights(original.get_weights())
    return other


variants = {"last layer random": randomised(True), "all layers random": randomised(False)}
compared = cases[: 2 if QUICK else 4]
random_maps = {name: [explain(variant, case) for case in compared] for name, variant in variants.items()}


def rank_correlation(first, second):
    """Spearman's correlation of two heat maps; 0 where one of them is empty."""
    return spearmanr(first.ravel(), second.ravel()).statistic if first.max() > 0 and second.max() > 0 else 0.0


sanity = pd.DataFrame(
    {
        case["Finding"]: [rank_correlation(heat, random_maps[name][number]) for name in variants]
        for number, (case, heat) in enumerate(zip(compared, heat_maps))
    },
    index=list(variants),
)
sanity["mean"] = sanity.mean(axis=1)
util.show_table(sanity, "Rank correlation with the trained network's heat map (1: the map ignores the network)", chest.source, 2)

# %%
if compared:
    film, heat = picture(compared[0]["row"]), heat_maps[0]
    util.show_films(
        [film] * 4,
        ["film", "trained network", *variants],
        chest.source,
        columns=4,
        heat_maps=[np.zeros_like(heat), heat, *(maps_of[0] for maps_of in random_maps.values())],
        boxes=[boxes_of(compared[0])] * 4,
    )

# %% [markdown]
# *Figure 13. The same X-ray explained by the trained network and by two randomised ones. The maps should have nothing to do
# with each other.*
#
# ### A shortcut, exposed
#
# In many hospitals the ward's portable machine burns its own letter into the X-ray, and the ward has sicker patients. Zech et
# al. (PLOS Medicine 2018) found networks that read the letter. We stage it: a letter on nearly all *training* X-rays with one
# finding and on few of those without, and a small network that learns from scratch. Nobody tells it what to look at, so it
# takes the easiest way. Then we score it on test X-rays with the letter as in training, without any, and with the letter on
# the wrong X-rays.

# %%
staged = max(FINDINGS, key=lambda finding: labels[train.index, FINDINGS.index(finding)].sum())
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

inputs = keras.Input((CHEST_SIZE, CHEST_SIZE, 1))
hidden = keras.layers.Conv2D(16, 5, strides=2, padding="same", activation="relu")(inputs)
hidden = keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(hidden)
hidden = keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="relu")(hidden)
hidden = keras.layers.Conv2D(64, 3, padding="same", activation="relu", name="last_conv")(hidden)
logits = keras.layers.Dense(1, name="logits")(keras.layers.GlobalAveragePooling2D()(hidden))
shortcut = keras.Model(inputs, keras.layers.Activation("sigmoid")(logits))
shortcut.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy", jit_compile=False)
marked_films = mark(rows, y_rows, 0.95, 0.05)
shortcut.fit(FilmBatches(marked_films, y_rows[:, np.newaxis], mean, sd), epochs=15, verbose=0)

test_rows = test.index.to_numpy()
y_staged = y_test[:, staged_class]
scores = {}
for name, with_finding, without_finding in [
    ("letter as in training", 0.95, 0.05),
    ("no letter", 0.0, 0.0),
    ("letter on the others", 0.05, 0.95),
]:
    marked_test = mark(test_rows, y_staged, with_finding, without_finding)
    scores[name] = util.auroc(y_staged, predict_films(shortcut, marked_test, mean, sd, what=name)[:, 0])
util.show_table(pd.DataFrame({f"AUROC for {staged}": scores}), "The network with the shortcut, on test X-rays", chest.source)

# %%
without = np.flatnonzero(y_staged == 0)[:4]
stamped = util.stamp_marker(films[test_rows[without]])
stamped_input = standardize_films(stamped, mean, sd)
outputs = np.asarray(shortcut.predict_on_batch(stamped_input))[:, 0]
util.show_films(
    stamped,
    [f"no {staged.lower()}, output {p:.2f}" for p in outputs],
    chest.source,
    columns=4,
    heat_maps=[grad_cam(shortcut, film, 0, "last_conv") for film in stamped_input],
)

# %% [markdown]
# *Figure 14. X-rays without the finding, stamped with the letter, explained by the network with the shortcut. A map that lights
# up around a letter, far from lungs and heart, is how GradCAM gives a shortcut away. A test set from the same hospital would
# not have: there the letter works.*
#
# **Summary.** GradCAM of the logit shows where a network looked, coarsely. Score it against boxes, check that it depends on
# the weights, and use it to find shortcuts. It cannot prove that a network is right: a heat map in the right place may
# still come from the wrong reason.
#
# *Further exercises.* Play the pointing game with `layer="conv4_block24_concat"`, a finer grid. GradCAM the sigmoid, and see
# what is left of the surest X-rays.

# %% [markdown]
# ## 1.9 Predictions for notebook 02
#
# The outputs of all three sets, with labels and patients, go into three tables. Set `DATA_DIR` in notebook 02 to this
# folder to evaluate *your* model there (by default it has tables that the course ships).


# %%
def prediction_table(part, y, p, mined=None):
    """One split as notebook 02 reads it."""
    about = part[["Image Index", "Patient ID", "Patient Age", "Patient Gender", "View Position"]].reset_index(drop=True)
    return PredictionTable(about.astype({"Patient ID": str}), y, p.astype(float), mined)


train_pred = predict_films(model, films[train.index], mean, sd, what="training X-rays")
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
# ## 1.10 What these numbers do not prove
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
# DenseNet121, scored it with intervals and questioned it with GradCAM. Notebook 02 turns its outputs into decisions.

# %%
public_tests.summary()

# %%
util.headline(
    {
        "mean AUROC": test_mean,
        "mean AUROC, report-derived labels": mined_mean,
        "pointing game": pointing["share in the box"].iloc[0],
        "leakage, AUROC gained": leaky.mean() - honest.mean(),
    },
    chest.source,
)
