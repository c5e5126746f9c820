# %% [markdown]
# # 2 · Evaluation of diagnostic models
#
# A model looks at a chest X-ray and says: *effusion, 0.73*. Is that good? Would it help a patient? What does the 0.73 mean?
#
# This notebook answers the first question with care, says what it takes to answer the second, and repairs the third. It
# needs no images and no neural network: only a table of what a model **said** about each X-ray and what a radiologist
# **saw**. Everything in it holds just as well for a blood test, a skin lesion app or a risk score.
#
# **After it you can**
#
# * count true and false positives and negatives, and build accuracy, sensitivity, specificity, PPV and NPV from them;
# * say why accuracy misleads, and why the same test is trustworthy in one clinic and useless in another;
# * draw and read ROC and precision–recall curves, and choose an operating threshold on purpose;
# * put an honest confidence interval on every number, with patients as the unit, and plan a study that is large enough;
# * find out whether a probability means what it says (calibration), and mend it when it does not;
# * show with a decision curve whether using the model would do more good than harm;
# * look for groups of patients for whom the model is worse, and list what a report must contain.
#
# **Time:** about three hours with the exercises; half a minute to run. **Points:** 100, in nine exercises, each with a check under it.
# **You should know** a little Python and NumPy. Notebook 1, where the model is trained, is not required.
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
DATA_DIR = None  # None: the simulated tables of the course. A folder: your own (see data/predictions)
QUICK = False  # True: a short pass for tests, with fewer bootstrap samples

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, cohen_kappa_score, f1_score, log_loss, roc_curve

import public_tests
import util
from data.nih import FINDINGS
from data.prediction_tables import read_predictions

util.use_course_style()
RESAMPLES = 200 if QUICK else 1000

# %% [markdown]
# ## 2.1 The data: labels and predictions
#
# *5 minutes. The question: what may each table be used for?*
#
# Each row of a table is one X-ray. For each of the 14 findings it holds a label $y \in \{0, 1\}$ and the model's prediction
# $\hat p \in [0, 1]$. There are up to three tables, and **what each may be used for** is the first rule of evaluation:
#
# | table | the model … | use it for |
# | --- | --- | --- |
# | training | learned from it | no performance; only how frequent each finding was (2.10) |
# | validation | did not learn from it | every *choice*: thresholds, calibration |
# | test | did not learn from it, **nor was anything chosen on it** | the numbers that are reported, once |

# %%
predictions = read_predictions(DATA_DIR)
valid, test, source = predictions.valid, predictions.test, predictions.source

print("Source of the data:", source)
for note in predictions.notes:
    print("Note:", note)

overview = {
    name: {"X-rays": len(table), "patients": len(np.unique(table.patients)), "positive labels": int(table.y.sum())}
    for name, table in [("training", predictions.train), ("validation", valid), ("test", test)]
    if table is not None
}
util.show_table(pd.DataFrame(overview).T, "Table 1. The tables and their size.", source)

# %% [markdown]
# In the test table that comes with the course a radiologist's reading is the label. In training and validation the labels
# were *mined from the text of reports* by a program, which makes mistakes; section 2.12 measures them. (For simulated X-rays the
# "reading" is the truth that the simulator drew, and the "mined" label is that truth with a program's mistakes.) A glance
# at a few rows, for two findings:

# %%
glance = test.about.head(4).copy()
for finding in ["Effusion", "Mass"]:
    k = FINDINGS.index(finding)
    glance[f"{finding} (label)"], glance[f"{finding} (prediction)"] = test.y[:4, k], test.p[:4, k]
util.show_table(glance.set_index("Patient ID"), "Table 2. Four X-rays of the test table.", source)

# %% [markdown]
# Throughout, one finding serves as the example: **pleural effusion**, fluid between lung and chest wall. Change the next
# line and run the notebook again to see another one.

# %%
EXAMPLE = "Effusion"
y = test.y[:, FINDINGS.index(EXAMPLE)]  # labels of the example in the test table
p = test.p[:, FINDINGS.index(EXAMPLE)]  # predictions
print(f"{EXAMPLE}: {y.sum()} of {y.size} test X-rays show it.")

# %% [markdown]
# One table will accompany us to the end: fourteen findings, twelve measures and the threshold. **Each function that you write
# fills a column**, and the dictionary `metrics` holds what is written so far. On the way only the new columns are drawn, as a
# dot for each finding; the whole table stands at the end of 2.5 and of 2.9. (`per_finding` is a small tool: it applies a metric
# to each of the fourteen findings.)

# %%
metrics = {}
thresholds = None


def performance():
    """The performance table of the test X-rays, as far as the metrics are written."""
    return util.performance_table(test.y, test.p, FINDINGS, metrics, thresholds)


def per_finding(metric, y, pred, *thresholds):
    """Compute a metric for each finding; thresholds, if given, are an array with one per finding."""
    return np.array([metric(*columns) for columns in zip(y.T, pred.T, *thresholds, strict=True)])


# %% [markdown]
# **Summary.** An evaluation needs labels and predictions for patients whom the model has not met. Choices are made on
# validation X-rays, results are reported on test X-rays.

# %% [markdown]
# ## 2.2 Four kinds of answers
#
# *20 minutes. The question: in which ways can an answer be right or wrong?*
#
# A probability is not a decision. To decide, pick a **threshold** $\tau$ and call an X-ray *positive* when
# $\hat p \ge \tau$. Then there are exactly four cases:
#
# | | the X-ray **shows** the finding ($y = 1$) | the X-ray **does not** ($y = 0$) |
# | --- | --- | --- |
# | **the model says yes** ($\hat p \ge \tau$) | true positive, **TP** | false positive, **FP**: a false alarm |
# | **the model says no** ($\hat p < \tau$) | false negative, **FN**: a miss | true negative, **TN** |
#
# *True* or *false* says whether the model was right; *positive* or *negative* says what the model answered. A false alarm
# costs worry, a further examination, sometimes a needle. A miss costs time, sometimes a life. They are not the same, and
# every measure in this notebook is a way to weigh them against each other.
#
# ### Exercise 1 (16 points)
#
# Write the four counts (4 points each). `y` and `pred` are arrays of the same length; an X-ray is positive when
# `pred >= th`: **equal counts as positive**.
#
# <details><summary>Hint</summary>
#
# `(y == 1) & (pred >= th)` is an array of True and False; `np.sum` counts the True ones. Mind the brackets: `&` binds
# tighter than `==`.
# </details>


# %% exercise="true_positives"
def true_positives(y, pred, th=0.5):
    """Count the X-rays that show the finding and are called positive.

    Parameters
    ----------
    y : array of 0 and 1, shape (n,)
        Labels.
    pred : array of float, shape (n,)
        Predicted probabilities.
    th : float
        An X-ray is called positive when `pred >= th`.

    Returns
    -------
    int
    """
    ### BEGIN SOLUTION
    return int(np.sum((np.asarray(y) == 1) & (np.asarray(pred) >= th)))
    ### END SOLUTION


# %% check="true_positives" points=4
public_tests.true_positives_test(true_positives)


# %% exercise="true_negatives"
def true_negatives(y, pred, th=0.5):
    """Count the X-rays that do not show the finding and are called negative."""
    ### BEGIN SOLUTION
    return int(np.sum((np.asarray(y) == 0) & (np.asarray(pred) < th)))
    ### END SOLUTION


# %% check="true_negatives" points=4
public_tests.true_negatives_test(true_negatives)


# %% exercise="false_positives"
def false_positives(y, pred, th=0.5):
    """Count the X-rays that do not show the finding but are called positive: false alarms."""
    ### BEGIN SOLUTION
    return int(np.sum((np.asarray(y) == 0) & (np.asarray(pred) >= th)))
    ### END SOLUTION


# %% check="false_positives" points=4
public_tests.false_positives_test(false_positives)


# %% exercise="false_negatives"
def false_negatives(y, pred, th=0.5):
    """Count the X-rays that show the finding but are called negative: misses."""
    ### BEGIN SOLUTION
    return int(np.sum((np.asarray(y) == 1) & (np.asarray(pred) < th)))
    ### END SOLUTION


# %% check="false_negatives" points=4
public_tests.false_negatives_test(false_negatives)

# %% [markdown]
# Here are the test X-rays of the example, each one a dot, with the four counts in the four corners:

# %% tags=["example"]
rng = np.random.default_rng(0)
shown = rng.permutation(y.size)[:1500]  # enough dots to see, few enough to tell apart
height = y[shown] + rng.uniform(-0.3, 0.3, shown.size)
right = (p[shown] >= 0.5) == (y[shown] == 1)

fig, ax = plt.subplots(figsize=(9, 3.6))
for is_right, colour, label in [(True, "C0", "the model is right"), (False, "C1", "the model is wrong")]:
    ax.plot(p[shown][right == is_right], height[right == is_right], ".", color=colour, ms=5, alpha=0.6, label=label)
ax.axvline(0.5, color="black", lw=1, ls="--")
for x, place, name, count in [
    (0.25, 1.5, "FN", false_negatives),
    (0.75, 1.5, "TP", true_positives),
    (0.25, -0.5, "TN", true_negatives),
    (0.75, -0.5, "FP", false_positives),
]:
    ax.text(x, place, f"{name} = {count(y, p, 0.5)}", ha="center", va="center", size=12, weight="bold")
ax.set(xlim=(-0.01, 1.01), ylim=(-0.75, 1.75), xlabel=f"predicted probability of {EXAMPLE.lower()}")
ax.set_yticks([0, 1], ["without finding", "with finding"])
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, markerscale=2)
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 1. The four kinds of answers at a threshold of 0.5 (dashed line). Each dot is an X-ray; up and down within a band
# means nothing. Moving the line to the left turns misses into hits and correct negatives into false alarms: whatever the
# threshold, one kind of error is traded for the other, because the two bands overlap. (With many X-rays, a sample is drawn.)*

# %%
metrics |= {"TP": true_positives, "TN": true_negatives, "FP": false_positives, "FN": false_negatives}
thresholds = 0.5
fig = util.plot_columns(performance(), ["TP", "FP", "FN", "TN"])
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 2. The four new columns of the table, for all findings at a threshold of 0.5.*

# %% [markdown]
# **Summary.** With a threshold each X-ray becomes a TP, FP, FN or TN. All that follows is arithmetic with these four
# numbers, and judgement about which arithmetic fits the question.
#
# *Further exercise.* ★ Suppose you know how many X-rays there are and how many of them show the finding. How many of the four
# counts do you then need to know to work out the rest?
#
# <details><summary>Answer</summary>
#
# Two: one of TP and FN, and one of FP and TN. TP + FN is the number of X-rays with the finding, FP + TN the number without.
# </details>

# %% [markdown]
# ## 2.3 Accuracy, and why it misleads
#
# *10 minutes. The question: can a model that never looks at an X-ray be right nearly always?*
#
# The obvious first measure is the share of right answers:
#
# $$\text{accuracy} = \frac{TP + TN}{TP + TN + FP + FN}$$
#
# ### Exercise 2 (6 points)
#
# Write `get_accuracy`. A rate over nothing (no X-rays at all) is `nan`. You may use the functions of exercise 1.


# %% exercise="get_accuracy"
def get_accuracy(y, pred, th=0.5):
    """Share of X-rays that the model calls rightly: a float in [0, 1], nan when there are no X-rays."""
    ### BEGIN SOLUTION
    right = true_positives(y, pred, th) + true_negatives(y, pred, th)
    return right / len(y) if len(y) else float("nan")
    ### END SOLUTION


# %% check="get_accuracy" points=6
public_tests.get_accuracy_test(get_accuracy)

# %% [markdown]
# How often is a finding there at all? That share is the **prevalence**:
#
# $$\text{prevalence} = \frac{1}{n} \sum_{i=1}^{n} y_i = \frac{TP + FN}{TP + TN + FP + FN}$$
#
# ### Exercise 3 (4 points)
#
# Write `get_prevalence`. It depends on the labels only: whatever the model says, patients are ill or not.


# %% exercise="get_prevalence"
def get_prevalence(y):
    """Share of X-rays that show the finding: a float in [0, 1], nan when there are no X-rays."""
    ### BEGIN SOLUTION
    return float(np.mean(y)) if len(y) else float("nan")
    ### END SOLUTION


# %% check="get_prevalence" points=4
public_tests.get_prevalence_test(get_prevalence)

# %% [markdown]
# Now the trap. Take a "model" that answers *no* to every X-ray, without looking. It is right whenever the finding is absent:
#
# $$\text{accuracy of “always no”} = 1 - \text{prevalence}$$
#
# <details><summary>Predict first: for how many of the fourteen findings is it at least as accurate as our model at 0.5?</summary>
#
# The next cell counts them. The rarer a finding and the more false alarms the model gives at 0.5, the harder it is to beat.
# </details>

# %% tags=["example"]
accuracy = pd.DataFrame(
    {"our model": per_finding(get_accuracy, test.y, test.p), "always no": per_finding(get_accuracy, test.y, np.zeros_like(test.p))},
    index=FINDINGS,
)
beaten = (accuracy["always no"] >= accuracy["our model"]).sum()
print(f'"Always no" is at least as accurate as the model for {beaten} of 14 findings.')
print("It finds nobody who is ill.")

fig, ax = plt.subplots(figsize=(8, 4.4))
ax.hlines(range(14), accuracy.min(axis=1), accuracy.max(axis=1), color="#cccccc", lw=3)
for name, colour in [("our model", "C0"), ("always no", "C1")]:
    ax.plot(accuracy[name], range(14), "o", color=colour, label=name)
ax.set_yticks(range(14), [finding.replace("_", " ") for finding in FINDINGS])
ax.set(xlabel="accuracy at threshold 0.5", ylim=(13.5, -0.5), xlim=(None, 1))
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 3. Accuracy of the model and of a "model" that always says no. Where an orange dot lies to the right of the blue
# one, refusing to look at the X-ray is "more accurate" than looking at it.*
#
# Accuracy counts a miss and a false alarm as equally bad. When few people are ill, nearly all of the X-rays are negative, so
# accuracy is nearly the share of negatives that are called negative, and says next to nothing about the ill.

# %%
metrics |= {"Accuracy": get_accuracy, "Prevalence": get_prevalence}

# %% [markdown]
# **Summary.** Accuracy depends on prevalence and hides which error was made. Compare every accuracy with that of "always
# no" before being impressed. We need numbers that look at the ill and at the healthy separately.
#
# *Further exercise.* ★★ For which prevalence can "always no" not be beaten in accuracy by a test with sensitivity and
# specificity 0.9?
#
# <details><summary>Answer</summary>
#
# The test is right in 90 % whatever the prevalence, "always no" in $1 - \pi$. So for every $\pi$ up to 10 %.
# </details>

# %% [markdown]
# ## 2.4 Sensitivity and specificity: how the test treats the ill and the healthy
#
# *15 minutes. The question: how well are the ill found, and how well are the healthy left alone?*
#
# Two questions, each about one group of people:
#
# $$\text{sensitivity} = P(\text{model says yes} \mid \text{ill}) = \frac{TP}{TP + FN} \qquad
#   \text{specificity} = P(\text{model says no} \mid \text{healthy}) = \frac{TN}{TN + FP}$$
#
# (*Ill* is short for "the X-ray shows this finding", *healthy* for "it does not"; such a person may have anything else.)
# Sensitivity never sees a healthy person and specificity never sees an ill one. So, unlike accuracy, neither of them
# changes merely because one group grows (as long as the ill stay equally ill and the healthy equally healthy, which is
# itself an assumption: see 2.13).
#
# To rule a disease **out** you want high **s**ensitivity: then a **n**egative answer is informative (*SnNout*). To rule it
# **in** you want high **s**pecificity: then a **p**ositive answer is (*SpPin*).
#
# ### Exercise 4 (14 points)
#
# Write both (7 points each). Without any ill (or healthy) person the rate is `nan`.


# %% exercise="get_sensitivity"
def get_sensitivity(y, pred, th=0.5):
    """Share of the X-rays with the finding that are called positive; nan when there are none."""
    ### BEGIN SOLUTION
    ill = true_positives(y, pred, th) + false_negatives(y, pred, th)
    return true_positives(y, pred, th) / ill if ill else float("nan")
    ### END SOLUTION


# %% check="get_sensitivity" points=7
public_tests.get_sensitivity_test(get_sensitivity)


# %% exercise="get_specificity"
def get_specificity(y, pred, th=0.5):
    """Share of the X-rays without the finding that are called negative; nan when there are none."""
    ### BEGIN SOLUTION
    healthy = true_negatives(y, pred, th) + false_positives(y, pred, th)
    return true_negatives(y, pred, th) / healthy if healthy else float("nan")
    ### END SOLUTION


# %% check="get_specificity" points=7
public_tests.get_specificity_test(get_specificity)

# %% tags=["example"]
cuts = np.linspace(0, 1, 201)
fig, ax = plt.subplots(figsize=(8, 3.4))
ax.plot(cuts, [get_sensitivity(y, p, cut) for cut in cuts], label="sensitivity")
ax.plot(cuts, [get_specificity(y, p, cut) for cut in cuts], label="specificity")
ax.plot(cuts, [get_accuracy(y, p, cut) for cut in cuts], ":", color="#777777", label="accuracy")
ax.axvline(0.5, color="black", lw=1, ls="--")
ax.set(xlabel=f"threshold on the probability of {EXAMPLE.lower()}", ylabel="rate", ylim=(0, 1.02))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 4. One model, all thresholds. A low threshold calls nearly everybody ill: few misses, many false alarms. A high
# threshold does the opposite. No threshold is "the" right one; 0.5 (dashed) is only a habit.*

# %%
metrics |= {"Sensitivity": get_sensitivity, "Specificity": get_specificity}
fig = util.plot_columns(performance(), ["Accuracy", "Prevalence", "Sensitivity", "Specificity"])
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 5. The columns written in 2.3 and 2.4, for all findings at 0.5. Findings with the same accuracy can differ widely in
# what happens to those who have them.*

# %% [markdown]
# **Summary.** Sensitivity is about the ill, specificity about the healthy, and the threshold trades one for the other.
# Always report them as a pair, with the threshold.
#
# *Further exercise.* ★ Show that accuracy is the average of sensitivity and specificity, weighted by prevalence:
# $\text{accuracy} = \pi \cdot \text{sens} + (1 - \pi) \cdot \text{spec}$.
#
# <details><summary>Answer</summary>
#
# $\frac{TP + TN}{n} = \frac{TP + FN}{n} \cdot \frac{TP}{TP + FN} + \frac{TN + FP}{n} \cdot \frac{TN}{TN + FP}$.
# </details>

# %% [markdown]
# ## 2.5 PPV and NPV: what an answer is worth to the patient
#
# *20 minutes. The question: the model says yes. Am I ill?*
#
# A patient does not ask "given that I am ill, would the model notice?". A patient asks: **"the model says yes. Am I ill?"**
# That is the same pair of events with the condition turned round:
#
# $$\text{PPV} = P(\text{ill} \mid \text{model says yes}) = \frac{TP}{TP + FP} \qquad
#   \text{NPV} = P(\text{healthy} \mid \text{model says no}) = \frac{TN}{TN + FN}$$
#
# Confusing $P(\text{yes} \mid \text{ill})$ with $P(\text{ill} \mid \text{yes})$ is one of the most frequent and most harmful
# errors in medicine; trained physicians make it too (Gigerenzer and others, 2007).
#
# ### Exercise 5 (14 points)
#
# Write both (7 points each). When the model never says yes (or never says no) there is nothing to divide by: `nan`.


# %% exercise="get_ppv"
def get_ppv(y, pred, th=0.5):
    """Share of the positive answers that are right; nan when there are none."""
    ### BEGIN SOLUTION
    said_yes = true_positives(y, pred, th) + false_positives(y, pred, th)
    return true_positives(y, pred, th) / said_yes if said_yes else float("nan")
    ### END SOLUTION


# %% check="get_ppv" points=7
public_tests.get_ppv_test(get_ppv)


# %% exercise="get_npv"
def get_npv(y, pred, th=0.5):
    """Share of the negative answers that are right; nan when there are none."""
    ### BEGIN SOLUTION
    said_no = true_negatives(y, pred, th) + false_negatives(y, pred, th)
    return true_negatives(y, pred, th) / said_no if said_no else float("nan")
    ### END SOLUTION


# %% check="get_npv" points=7
public_tests.get_npv_test(get_npv)

# %% [markdown]
# ### The same test, another clinic
#
# Bayes' theorem connects the two directions through the prevalence $\pi$ (the *pre-test probability*):
#
# $$\text{PPV} = \frac{\text{sens} \cdot \pi}{\text{sens} \cdot \pi + (1 - \text{spec}) (1 - \pi)} \qquad
#   \text{NPV} = \frac{\text{spec} \cdot (1 - \pi)}{\text{spec} \cdot (1 - \pi) + (1 - \text{sens})\, \pi}$$
#
# First check that the formula gives what you have counted, then ask what happens elsewhere:


# %%
def ppv_by_bayes(sensitivity, specificity, prevalence):
    """Positive predictive value of a test where the disease has a given prevalence."""
    ill, healthy = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)  # who are told "yes"
    return ill / (ill + healthy)


def npv_by_bayes(sensitivity, specificity, prevalence):
    """Negative predictive value of a test where the disease has a given prevalence."""
    healthy, ill = specificity * (1 - prevalence), (1 - sensitivity) * prevalence  # who are told "no"
    return healthy / (healthy + ill)


sensitivity, specificity, prevalence = get_sensitivity(y, p), get_specificity(y, p), get_prevalence(y)
by_bayes = [rule(sensitivity, specificity, prevalence) for rule in (ppv_by_bayes, npv_by_bayes)]
print(f"counted: PPV {get_ppv(y, p):.3f}, NPV {get_npv(y, p):.3f}")
print(f"Bayes:   PPV {by_bayes[0]:.3f}, NPV {by_bayes[1]:.3f}")

# %% tags=["example"]
prevalences = np.geomspace(0.001, 0.9, 200)
fig, ax = plt.subplots(figsize=(8, 3.6))
ax.plot(prevalences, ppv_by_bayes(sensitivity, specificity, prevalences), label="PPV")
ax.plot(prevalences, npv_by_bayes(sensitivity, specificity, prevalences), label="NPV")
ax.plot(prevalences, prevalences, ":", color="#777777", label="before the test")
ax.plot(prevalence, get_ppv(y, p), "o", color="C0")
ax.plot(prevalence, get_npv(y, p), "o", color="C1")
ax.set_xscale("log")
ax.set_xticks([0.001, 0.01, 0.1, 0.5], ["0.1 %", "1 %", "10 %", "50 %"])
ax.set(xlabel="prevalence where the test is used", ylabel="predictive value", ylim=(0, 1.02))
ax.set_title(f"{EXAMPLE} at 0.5: sensitivity {sensitivity:.2f}, specificity {specificity:.2f}")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 6. The same model, with the same sensitivity and specificity, at different prevalences. The dots are our test set.
# The dotted line is what was known before the model spoke; the distance from it to the PPV is what a positive answer adds.
# Where few are ill, most alarms are false; where nearly all are ill, it is the all-clear that misleads.*
#
# Percentages of percentages are hard on everybody. **Natural frequencies** are not: imagine 1,000 people.

# %%
COLOURS = {"ill, alarm": "C0", "ill, missed": "black", "healthy, false alarm": "C1", "healthy, left in peace": "#d9d9d9"}
PLACES = {"Screening": 0.01, "Ward": 0.10, "Specialised unit": 0.40}
fig, axes = plt.subplots(1, 3, figsize=(11, 3.3))
for ax, (place, share) in zip(axes, PLACES.items(), strict=True):
    ill = round(1000 * share)
    if np.isnan(sensitivity + specificity):
        ax.set_title(f"{place}: nobody with, or nobody without\n{EXAMPLE.lower()} among the test X-rays")
        continue
    found, alarms = round(ill * sensitivity), round((1000 - ill) * (1 - specificity))
    people = np.repeat(list(COLOURS.values()), [found, ill - found, alarms, 1000 - ill - alarms])
    ax.scatter(np.arange(1000) // 25, -(np.arange(1000) % 25), c=people, s=17, marker="s", lw=0)
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_title(f"{place}: {ill} of 1,000 are ill\n{found + alarms} alarms, {found} of them right")
handles = [plt.Line2D([], [], marker="s", ls="", color=c, label=name) for name, c in COLOURS.items()]
fig.legend(handles=handles, loc="outside lower left", ncols=4, fontsize=9)
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 7. A thousand people in three places: a screening programme, a general ward, a specialised unit. The model is the
# same in all three. What an alarm means is the number of blue squares against the number of orange ones.*

# %%
metrics |= {"PPV": get_ppv, "NPV": get_npv}
caption = "Table 3. Performance on the test X-rays, every finding at 0.5; columns that are not written yet show a dash."
util.show_performance_table(performance(), caption, source)

# %% [markdown]
# Threshold and prevalence are the two screws of every diagnostic test. Turn them:


# %%
def show_screws(threshold=0.5, prevalence=0.1):
    """What 1,000 people meet at a threshold of the example and a prevalence."""
    fig = util.plot_thousand(get_sensitivity(y, p, threshold), get_specificity(y, p, threshold), prevalence, y, p)
    fig.suptitle(f"{EXAMPLE}, threshold {threshold:.2f}, prevalence {prevalence:.0%}", x=0.01, ha="left", fontsize=11)
    util.sign_figure(fig, source)


util.play(show_screws, threshold=(0.01, 0.99), prevalence=(0.01, 0.6))

# %% [markdown]
# *Figure 8. Left: what 1,000 people meet. Right: where that threshold lies on the ROC curve (section 2.6). In Jupyter two sliders
# move the threshold, which moves the point, and the prevalence, which does not. Without a kernel: 0.50 and 10 %.*

# %% [markdown]
# **Summary.** PPV and NPV answer the patient's question, but they belong to a test *in a place*. A PPV measured on a
# collection of X-rays that was enriched with ill patients, as test sets usually are, must not be promised to a screening
# programme: recompute it by Bayes for the local prevalence.
#
# *Further exercises.* (1) ★ In odds, Bayes' theorem is one multiplication: post-test odds = pre-test odds × LR⁺ with
# $LR^+ = \text{sens}/(1-\text{spec})$. Verify it for the example. (2) ★ At 1 % prevalence, which brings more PPV: raising
# sensitivity from 0.8 to 0.9, or specificity from 0.8 to 0.9?
#
# <details><summary>Answers</summary>
#
# (1) $\frac{PPV}{1 - PPV} = \frac{\text{sens} \cdot \pi}{(1 - \text{spec})(1 - \pi)}$, the quotient of the two terms in the formula.
# (2) Specificity: from 0.8 and 0.8 (PPV 3.9 %), sensitivity 0.9 gives 4.3 %, specificity 0.9 gives 7.5 %: it halves the false alarms.
# </details>

# %% [markdown]
# ## 2.6 The ROC curve: all thresholds at once
#
# *10 minutes. The question: what could be had, before anybody has chosen a threshold?*
#
# Sensitivity and specificity need a threshold; a model does not have one until somebody chooses it. The **receiver
# operating characteristic** shows every possible choice: for each threshold one point, with $1 - \text{specificity}$ (the
# share of healthy people who are alarmed) to the right and sensitivity upwards. The points below come from *your*
# functions, the line from scikit-learn:

# %%
false_alarms, hits, cuts = roc_curve(y, p)
by_hand = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9]

fig, ax = plt.subplots(figsize=(4.8, 4.6))
ax.plot(false_alarms, hits, lw=1.5)
ax.fill_between(false_alarms, hits, color="C0", alpha=0.12, lw=0)
ax.plot([0, 1], [0, 1], ":", color="#777777")
for cut in by_hand:
    x, height = 1 - get_specificity(y, p, cut), get_sensitivity(y, p, cut)
    ax.plot(x, height, "o", color="C1", ms=5)
    ax.annotate(f"{cut:g}", (x, height), xytext=(6, -9), textcoords="offset points", fontsize=9)
ax.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")
ax.set_title(f"{EXAMPLE}: AUROC {util.auroc(y, p):.3f}")
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 9. The ROC curve of the example. Orange: thresholds, computed with your functions. Dotted: a coin that says "ill"
# with some probability, without looking. The shaded area under the curve is the AUROC.*
#
# ### What the area means
#
# The area under the curve (**AUROC**, in tables often AUC) has a meaning that needs no curve: pick an ill and a healthy
# patient at random. The AUROC is the probability that the model gives the **ill one the higher score** (ties count half):
#
# $$\text{AUROC} = P(\hat p_{\text{ill}} > \hat p_{\text{healthy}}) + \tfrac12 P(\hat p_{\text{ill}} = \hat p_{\text{healthy}})$$
#
# Statisticians know this as the Mann–Whitney statistic. Compare all pairs and see:

# %%
ill, healthy = p[y == 1], p[y == 0]
difference = ill[:, None] - healthy[None, :]  # one row per ill, one column per healthy X-ray
right_order = (difference > 0).mean() + (difference == 0).mean() / 2
print(f"{right_order:.6f}  of {ill.size} × {healthy.size} = {difference.size:,} pairs in the right order")
print(f"{util.auroc(y, p):.6f}  area under the ROC curve, by scikit-learn")

# %%
fig = util.plot_curve_grid("roc", test.y, test.p, FINDINGS)
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 10. ROC curves of all findings on the test X-rays. A jagged curve is a warning: each X-ray with the finding is a step
# upwards, and few steps mean few X-rays. Section 2.8 turns this warning into an interval.*
#
# ### How good is a guess?
#
# An AUROC of 0.5 is what guessing gets *on average*. How far from it does a guess come by luck? Let 500 guessers give every X-ray a
# random score, and hold the model against them. With ranks (1 for the lowest score, $n$ for the highest) the Mann–Whitney
# statistic is one line: $\text{AUROC} = \big(\sum_{\text{ill}} \text{rank} - n_1 (n_1 + 1) / 2\big) / (n_1 n_0)$.

# %% tags=["example"]
rng = np.random.default_rng(6)
ranks = np.argsort(rng.random((500, len(test))), axis=1) + 1  # one row of random ranks per guesser
n_ill = test.y.sum(axis=0)
with np.errstate(invalid="ignore", divide="ignore"):
    guesses = (ranks @ test.y - n_ill * (n_ill + 1) / 2) / (n_ill * (len(test) - n_ill))

order = np.argsort(-n_ill, kind="stable")
fig, ax = plt.subplots(figsize=(8, 4.6))
low, high = util.percentile_interval(guesses)
ax.hlines(range(14), low[order], high[order], color="#bbbbbb", lw=7, label="95 % of 500 guessers")
ax.plot(per_finding(util.auroc, test.y, test.p)[order], range(14), "o", color="C0", label="model")
ax.axvline(0.5, color="#999999", ls=":")
ax.set_yticks(range(14), [f"{util.readable(FINDINGS[k])} ({n_ill[k]})" for k in order])
ax.set(xlabel="AUROC", ylim=(13.5, -0.5))
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 11. The model (blue) and 500 guessers (grey); in brackets, the number of X-rays with the finding. The rarer it is, the wider
# luck spreads: with ten positives one guesser in forty passes 0.68 or so. A paper's "AUROC 0.65" for a rare finding may be nothing.*
#
# The AUROC looks at **order** only. Halve all probabilities, or square them: no pair changes places, the AUROC stays. That
# is its strength (no threshold, no prevalence) and its weakness (it cannot see whether a probability is *true*; section 2.10).

# %%
metrics |= {"AUC": util.auroc}

# %% [markdown]
# **Summary.** The ROC curve lists what can be had; the AUROC summarises it as the probability of ranking a random ill patient
# above a random healthy one. It does not tell you which threshold to use, nor what an answer is worth.
#
# *Further exercises.* (1) ★ What is the AUROC of $1 - \hat p$? (2) ★★ Two models with the same AUROC can have very different
# sensitivity at 95 % specificity. Draw two such curves.
#
# <details><summary>Answers</summary>
#
# (1) One minus the AUROC of $\hat p$: every pair is turned round. (2) One curve rises steeply at the left and then flattens, the other
# starts flat and reaches 1 early; they cross, and the areas lost and won cancel.
# </details>

# %% [markdown]
# ## 2.7 Choosing an operating threshold
#
# *10 minutes. The question: from which probability on should the alarm ring?*
#
# To act, one point of the curve has to be chosen. Which one is not a question of mathematics but of what the answer is
# *for*. Three common rules:
#
# | rule | choose $\tau$ such that | when |
# | --- | --- | --- |
# | **Youden** | $\text{sens} + \text{spec} - 1$ is largest | nobody said what errors cost (and then: ask) |
# | **target sensitivity** | sensitivity reaches, say, 0.90; highest such $\tau$ | to rule out; a promise to those who are ill |
# | **cost** | $c_{FN} \cdot FN + c_{FP} \cdot FP$ is smallest | the harms of the two errors can be compared |
#
# The threshold is a parameter that is fitted to data, like a weight of the network. **So it is chosen on validation X-rays
# and then applied, unchanged, to the test X-rays.** A threshold chosen on the test X-rays makes the test X-rays training data.

# %%
COST_OF_MISS, COST_OF_ALARM = 5, 1  # a miss is as bad as five false alarms: to be argued about


def choose_threshold(y, p, rule):
    """Threshold by "Youden", "sensitivity 0.90" or "cost"; nan when only one class is there."""
    if not 0 < y.sum() < y.size:
        return np.nan
    false_alarms, hits, cuts = roc_curve(y, p, drop_intermediate=False)
    false_alarms, hits, cuts = false_alarms[1:], hits[1:], cuts[1:]  # the first calls nobody ill
    if rule == "Youden":
        return cuts[np.argmax(hits - false_alarms)]
    if rule == "sensitivity 0.90":
        return cuts[np.argmax(hits >= 0.90)]  # cuts fall, so this is the highest that reaches it
    misses, alarms = (1 - hits) * (y == 1).sum(), false_alarms * (y == 0).sum()
    return cuts[np.argmin(COST_OF_MISS * misses + COST_OF_ALARM * alarms)]


RULES = ["Youden", "sensitivity 0.90", "cost"]
chosen = {rule: per_finding(choose_threshold, valid.y, valid.p, [rule] * 14) for rule in RULES}

# %%
k = FINDINGS.index(EXAMPLE)
y_valid, p_valid = valid.y[:, k], valid.p[:, k]


def cost_per_thousand(y, p, th):
    """What the errors at a threshold cost, in false alarms per 1,000 X-rays."""
    cost = COST_OF_MISS * false_negatives(y, p, th) + COST_OF_ALARM * false_positives(y, p, th)
    return 1000 * cost / len(y)


cuts = np.linspace(0, 1, 301)
cost = [cost_per_thousand(y_valid, p_valid, c) for c in cuts]
youden = [get_sensitivity(y_valid, p_valid, c) + get_specificity(y_valid, p_valid, c) - 1 for c in cuts]
false_alarms, hits, _ = roc_curve(y, p)

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.7))
left.plot(cuts, youden, color="#555555")
left.set(title="validation: Youden's index", xlabel="threshold", ylabel="sens + spec − 1")
middle.plot(cuts, cost, color="#555555")
middle.set(title="validation: cost per 1,000 X-rays", xlabel="threshold")
middle.set_ylabel(f"{COST_OF_ALARM} × false alarms + {COST_OF_MISS} × misses")
right.plot(false_alarms, hits, color="#555555")
right.set(title="test: ROC curve", xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")
looks = [("C0", "-", 11), ("C1", "--", 8), ("C2", ":", 5)]
for rule, (colour, style, size) in zip(RULES, looks, strict=True):
    cut = chosen[rule][k]
    left.axvline(cut, color=colour, lw=2, ls=style)
    middle.axvline(cut, color=colour, lw=2, ls=style)
    place = 1 - get_specificity(y, p, cut), get_sensitivity(y, p, cut)
    right.plot(*place, "o", color=colour, ms=size)
    right.plot([], [], style, marker="o", color=colour, ms=size, label=f"{rule}: {cut:.2f}")
right.legend(loc="lower right", fontsize=9)
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 12. Three thresholds for the example, chosen on validation X-rays (left, middle), and where they come to lie on the
# test X-rays (right). A threshold that reached its target on validation need not reach it exactly on test: other patients,
# and another prevalence and another way of labelling if the tables differ in that.*
#
# From here on the performance table uses **Youden's threshold of each finding**, chosen on validation.

# %%
rows = {}
for rule in RULES:
    rows[rule] = {
        f"{name} ({split})": np.nanmean(per_finding(metric, table.y, table.p, chosen[rule]))
        for name, metric in [("sensitivity", get_sensitivity), ("specificity", get_specificity)]
        for split, table in [("validation", valid), ("test", test)]
    }
caption = "Table 4. Mean over the findings, with thresholds chosen on validation."
util.show_table(pd.DataFrame(rows).T, caption, source)
thresholds = chosen["Youden"]

# %% [markdown]
# ### A threshold is an estimate too
#
# Had other validation patients been drawn, another threshold would have been chosen. Choose it for the example again and again: on random
# halves of the validation patients, and on the same halves as if the finding were rare, with only ten positive X-rays left in each.

# %% tags=["example"]
people = np.unique(valid.patients)
rng = np.random.default_rng(7)
again = {"half of the validation patients": [], "the same, as if only ten were positive": []}
for _ in range(40 if QUICK else 200):
    half = np.flatnonzero(np.isin(valid.patients, rng.choice(people, people.size // 2, replace=False)))
    ill, healthy = half[y_valid[half] == 1], half[y_valid[half] == 0]
    for rows, cuts in zip([half, np.r_[rng.permutation(ill)[:10], healthy]], again.values(), strict=True):
        cuts.append(choose_threshold(y_valid[rows], p_valid[rows], "Youden"))

fig, axes = plt.subplots(2, 2, figsize=(10, 3.8), sharex="col", sharey="col")
for row, (name, cuts) in zip(axes, again.items(), strict=True):
    cuts = np.array(cuts)[np.isfinite(cuts)]
    found = [get_sensitivity(y, p, cut) for cut in cuts]
    for ax, values, colour in [(row[0], cuts, "C0"), (row[1], found, "C1")]:
        ax.hist(values, bins=np.linspace(0, 1, 51), color=colour)
        ax.set_yticks([])
    row[0].axvline(thresholds[FINDINGS.index(EXAMPLE)], color="black", ls="--", lw=1)
    row[0].set_title(name)
    low, high = np.percentile(found or [np.nan], [5, 95])
    print(f"{name}: sensitivity on the test X-rays from {low:.2f} to {high:.2f} (90 % of the draws)")
axes[1, 0].set_xlabel(f"Youden's threshold for {EXAMPLE.lower()}")
axes[1, 1].set_xlabel("sensitivity on the test X-rays at that threshold")
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 13. Thresholds that other validation patients would have given (left; dashed: the one chosen on all) and the sensitivity on
# the test X-rays that comes of them (right). The fewer positives a threshold is chosen on, the more it is a matter of luck, and with it
# the sensitivity that patients meet. For a rare finding, say how many positives the threshold rests on.*
#
# **Summary.** The purpose chooses the threshold, the validation set fixes it, the test set judges it. Every finding has its
# own. Without a stated threshold, sensitivity and specificity mean nothing.
#
# *Further exercises.* (1) ★ Set `COST_OF_MISS` to 50. Which findings are then called positive in almost everybody? (2) ★★ Choose
# Youden's threshold on the *test* X-rays instead. By how much does $\text{sens} + \text{spec}$ rise on average, and why is
# that rise worth nothing?
#
# <details><summary>Answers</summary>
#
# (1) Those whose prevalence is above roughly 1 in 51, unless the model separates them well: a miss then costs more than alarming all the
# others. (2) `per_finding(choose_threshold, test.y, test.p, ["Youden"] * 14)` gives the thresholds. The rise is the noise of the test
# set, to which the threshold has been fitted; on new patients it is gone.
# </details>

# %% [markdown]
# ## 2.8 Confidence intervals: how sure are we?
#
# *30 minutes. The question: would other patients have given the same number?*
#
# Other patients would have given other numbers. A **95 % confidence interval** is the result of a recipe: if the study were repeated
# with other patients again and again, and each time an interval were computed, 95 % of these intervals would contain the true value.
# (Model and threshold count as fixed here; only the test patients are drawn anew.) For the AUROC, and for anything else, the
# **bootstrap** (Efron, 1979) finds such an interval by a simple trick: our sample is the best picture we have of the population, so draw
# new samples *from it*, **with replacement** and of the same size, and see how much the number varies. The interval runs from the
# **2.5th to the 97.5th percentile** of the values.
#
# ### Patients, not X-rays
#
# One patient may have ten X-rays. They resemble each other: the same chest, often the same effusion. Ten such X-rays are not
# ten independent pieces of evidence. If X-rays are drawn one by one, the bootstrap believes that they are, and the interval
# comes out **too narrow**. So draw *patients*, and take all X-rays of each.
#
# ### Exercise 6 (18 points)
#
# Write `bootstrap_patients(patient_ids, rng)`. It returns the row numbers of *one* bootstrap sample:
#
# * as many draws as there are *different* patients, each patient equally likely, with replacement, by `rng`;
# * each draw contributes **all** rows of that patient; a patient who is drawn twice contributes them twice.
#
# So the number of rows differs a little from sample to sample. That is right.
#
# <details><summary>Hint</summary>
#
# `np.unique(patient_ids)` lists the patients, `rng.choice(…, size=…)` draws from them with replacement. For each one that
# was drawn, `np.flatnonzero(patient_ids == patient)` finds the rows; `np.concatenate` puts them together. (Faster: look up
# the rows of all patients once, before drawing.)
# </details>


# %% exercise="bootstrap_patients"
def bootstrap_patients(patient_ids, rng):
    """Draw one bootstrap sample of patients.

    Parameters
    ----------
    patient_ids : array of shape (n,)
        Patient of each row; X-rays of one patient share it.
    rng : numpy.random.Generator
        Where all randomness comes from.

    Returns
    -------
    array of int
        Row indices: all rows of each drawn patient, repeated as often as the patient was drawn.
    """
    ### BEGIN SOLUTION
    patients, patient = np.unique(np.asarray(patient_ids), return_inverse=True)
    by_patient = np.argsort(patient, kind="stable")
    rows_of = np.split(by_patient, np.cumsum(np.bincount(patient))[:-1])  # rows of each patient
    drawn = rng.integers(patients.size, size=patients.size)
    return np.concatenate([rows_of[number] for number in drawn])
    ### END SOLUTION


# %% check="bootstrap_patients" points=18
public_tests.bootstrap_patients_test(bootstrap_patients)

# %% [markdown]
# With it, a loop gives the interval of the example. It calls scikit-learn's `roc_auc_score` once per sample:

# %%
rng = np.random.default_rng(0)
samples = [bootstrap_patients(test.patients, rng) for _ in range(100)]
start = time.perf_counter()
areas = np.array([util.auroc(y[rows], p[rows]) for rows in samples])
seconds_loop = (time.perf_counter() - start) / len(samples)
low, high = np.nanpercentile(areas, [2.5, 97.5]) if len(np.unique(test.patients)) > 1 else (np.nan, np.nan)
print(f"{EXAMPLE}: AUROC {util.auroc(y, p):.3f}, 95 % interval {low:.3f} to {high:.3f}")

# %% [markdown]
# A thousand samples of fourteen findings this way take a while. `util.bootstrap_auroc` gets **the same numbers** without a
# loop over the samples: a bootstrap sample is nothing but a *weight* per patient (how often he or she was drawn), and the
# AUROC of all samples is then one sparse matrix product per finding. (The docstring has the formula.)

# %%
start = time.perf_counter()
patient, counts = util.resample_patients(test.patients, RESAMPLES, np.random.default_rng(0))
areas_all = util.bootstrap_auroc(test.y, test.p, patient, counts)  # one row per sample
seconds_fast = time.perf_counter() - start
print(f"{RESAMPLES:,} samples × 14 findings: {seconds_fast:.2f} s")
print(f"the loop would take about {seconds_loop * 14 * RESAMPLES:.0f} s")

k = FINDINGS.index(EXAMPLE)
by_loop = []
for sample in range(5):  # the same samples, the plain way
    rows = np.repeat(np.arange(y.size), counts[patient, sample].astype(int))
    by_loop.append(util.auroc(y[rows], p[rows]))
print(f"largest difference from the loop: {np.abs(areas_all[:5, k] - by_loop).max():.0e}")

# %% tags=["example"]
low, high = util.percentile_interval(areas_all[:, k])
fig, ax = plt.subplots(figsize=(8, 3))
ax.hist(areas_all[np.isfinite(areas_all[:, k]), k], bins=40, color="#cccccc")
ax.axvspan(low, high, color="C0", alpha=0.15, lw=0)
for value, style in [(low, "--"), (high, "--"), (util.auroc(y, p), "-")]:
    ax.axvline(value, color="C0", ls=style)
ax.set(xlabel=f"AUROC of {EXAMPLE.lower()}", ylabel="bootstrap samples")
ax.set_title(f"95 % interval: {low:.3f} to {high:.3f}")
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 14. The AUROC of the example in bootstrap samples of patients. Solid: the test set as it is. Shaded: from the 2.5th
# to the 97.5th percentile.*


# %%
def intervals(y, patients):
    """AUROC and interval of each finding on the test X-rays."""
    return util.auroc_intervals(y, test.p, patients, FINDINGS, np.random.default_rng(0), RESAMPLES)


by_patient = intervals(test.y, test.patients)
by_film = intervals(test.y, np.arange(len(test)))

fig, ax = plt.subplots(figsize=(8, 5))
util.plot_intervals(ax, {"patients drawn (right)": by_patient, "X-rays drawn (wrong)": by_film})
ax.axvline(0.5, color="#999999", ls=":")
util.sign_figure(fig, source)

ratio = ((by_patient["high"] - by_patient["low"]) / (by_film["high"] - by_film["low"])).mean()
films_each = len(test) / len(np.unique(test.patients))
print(f"{films_each:.2f} X-rays per patient. Intervals from patients are {ratio:.2f} times as wide on average.")
if films_each == 1:
    print("Each X-ray counts as a patient of its own here, so the two are the same but for chance.")

# %% [markdown]
# *Figure 15. AUROC and 95 % intervals of all findings on the test X-rays. Width goes with the number of patients who have the
# finding. The more X-rays a patient has, and the more these resemble each other, the more the X-ray-wise interval flatters.*
#
# To see the mechanism at its plainest, cheat: put five copies of every X-ray into the test set. We have learned nothing new
# about anybody, so an honest interval must not change.

# %%
copies = np.repeat(np.arange(len(test)), 5)
copied = test.take(copies)
widths = {}
for name, units in [("patients", copied.patients), ("X-rays", np.arange(len(copied)))]:
    rng = np.random.default_rng(0)
    table = util.auroc_intervals(copied.y, copied.p, units, FINDINGS, rng, RESAMPLES)
    widths[name] = ((table["high"] - table["low"]) / (by_patient["high"] - by_patient["low"])).mean()
print("Five copies of every X-ray change the width of the intervals, on average,")
print(f"by a factor of {widths['patients']:.2f} when patients are drawn (right),")
print(f"by a factor of {widths['X-rays']:.2f} when X-rays are drawn (wrong: nothing new was learned).")

# %% [markdown]
# The bootstrap does this for **any** number, not only for the AUROC. Your functions, at the chosen threshold:

# %%
cut = thresholds[k]
measures = [get_sensitivity, get_specificity, get_ppv, get_npv, get_accuracy]


def all_measures(y, p):
    """All of them at once."""
    return [measure(y, p, cut) for measure in measures]


rng = np.random.default_rng(0)
drawn = util.bootstrap_metric(all_measures, test.patients, rng, y, p, n_resamples=RESAMPLES)
low, high = util.percentile_interval(drawn)
names = ["Sensitivity", "Specificity", "PPV", "NPV", "Accuracy"]
rows = pd.DataFrame({"value": all_measures(y, p), "low": low, "high": high}, index=names)
util.show_table(rows, f"Table 5. {EXAMPLE}, at its threshold, with 95 % intervals.", source)

# %% [markdown]
# ### Does 95 % mean 95 %?
#
# A promise about repeated studies can only be tested by repeating the study. With patients that is impossible; with simulated scores,
# whose true AUROC is known, it takes a second. Each of 200 studies has 60 patients with five X-rays each, and a third of the patients
# are ill. A score is the sum of illness, something that belongs to the *patient* (the same chest in all five X-rays) and noise of
# its own. Two normal distributions that lie $d$ standard deviations apart have the true AUROC $\Phi(d/\sqrt 2)$.
#
# <details><summary>Predict first: how many of the 200 intervals will miss the truth when X-rays are drawn, how many when patients are?</summary>
#
# About ten of 200 *should*. Five X-rays of a patient whose scores share most of their variance are worth little more than one; the X-ray-wise
# recipe counts them as five, so its intervals are far too short and miss far too often.
# </details>


# %%
def simulate_studies(patients, films_each, n_ill, distance, shared, studies, rng):
    """Labels (X-rays,) and scores (X-rays, studies); `shared` is the part of a score's variance that belongs to the patient."""
    patient = np.repeat(np.arange(patients), films_each)
    label = (patient < n_ill).astype(int)
    scores = rng.normal(size=(patients, studies))[patient] * np.sqrt(shared)
    scores += rng.normal(size=(patient.size, studies)) * np.sqrt(1 - shared)
    return label, scores + distance * label[:, None], patient


def coverage(label, scores, units, truth, rng):
    """Intervals (2, studies) from bootstrap samples of `units`, and whether each contains the true AUROC."""
    truths = np.repeat(label[:, None], scores.shape[1], axis=1)
    drawn = util.bootstrap_auroc(truths, scores, *util.resample_patients(units, RESAMPLES // 2, rng))
    interval = np.array(util.percentile_interval(drawn))
    return interval, (interval[0] <= truth) & (truth <= interval[1])


rng = np.random.default_rng(28)
studies = 40 if QUICK else 200
distance, far = 1.2, 2.4
truth, higher = norm.cdf(distance / np.sqrt(2)), norm.cdf(far / np.sqrt(2))
label, scores, who = simulate_studies(60, 5, 20, distance, 0.8, studies, rng)
few_label, few_scores, few_who = simulate_studies(120, 1, 10, far, 0, studies, rng)
trials = {
    "X-rays drawn (wrong)": (*coverage(label, scores, np.arange(label.size), truth, rng), truth),
    "patients drawn (right)": (*coverage(label, scores, who, truth, rng), truth),
    "patients drawn, only ten are ill": (*coverage(few_label, few_scores, few_who, higher, rng), higher),
}
fig = util.plot_coverage(trials, shown=100)
util.sign_figure(fig, "simulated scores")
for name, (_, hit, _) in trials.items():
    print(f"{name}: {hit.mean():.1%} of {studies} intervals contain the true AUROC.")

# %% [markdown]
# *Figure 16. A hundred studies each; a line is the 95 % interval of one. Red with a cross: it misses the true AUROC (dotted). Left,
# X-ray by X-ray; middle, the same studies by patient; right, studies with ten ill patients and a true AUROC near 1. Drawing
# patients comes near to what was promised. With ten ill patients, and near 1 where the sampling distribution is skewed, percentile
# intervals promise more than they keep; there, say so, or use a method made for it (BCa, or an exact one for proportions).*
#
# ### How many patients does a study need?
#
# The width of an interval can be planned. For a proportion $s$, such as a sensitivity, estimated from $n$ ill patients, half the width is
# about $z \sqrt{s (1 - s) / n}$, with $z = 1.96$ for 95 % confidence (`scipy.stats.norm.ppf(0.975)`).
#
# ### Exercise 7 (6 points)
#
# Write `positives_needed(sensitivity, half_width, confidence=0.95)`: the smallest whole number $n \ge 1$ of ill patients for which
# $z \sqrt{s (1 - s) / n} \le$ `half_width`.


# %% exercise="positives_needed"
def positives_needed(sensitivity, half_width, confidence=0.95):
    """Smallest number of ill patients with which a sensitivity is known to ± half_width.

    Parameters
    ----------
    sensitivity : float
        Expected sensitivity, in [0, 1].
    half_width : float
        Half of the interval's width, above 0.
    confidence : float
        In (0, 1); 0.95 gives z = 1.96.

    Returns
    -------
    int
        At least 1.
    """
    ### BEGIN SOLUTION
    z = norm.ppf(0.5 + confidence / 2)
    n = max(1, int(sensitivity * (1 - sensitivity) * (z / half_width) ** 2))
    while z * np.sqrt(sensitivity * (1 - sensitivity) / n) > half_width:
        n += 1
    return n
    ### END SOLUTION


# %% check="positives_needed" points=6
public_tests.positives_needed_test(positives_needed)

# %%
plan = pd.DataFrame({"ill patients": {width: positives_needed(0.9, width) for width in (0.1, 0.05, 0.03, 0.02)}})
prevalence = get_prevalence(y)
plan["patients to examine here"] = np.ceil(plan["ill patients"] / (prevalence or np.nan)).astype("Int64")
plan["at a prevalence of 1 %"] = plan["ill patients"] * 100
plan.index = [f"± {width:g}" for width in plan.index]
util.show_table(
    plan, f"Table 6. What it takes to know a sensitivity of 0.9 ({EXAMPLE.lower()}: prevalence {prevalence:.3f}).", source
)

# %% [markdown]
# Half the width costs four times the patients, and it is the *ill* who count: for a rare finding most of the study is spent on
# looking for them.
#
# ### Which of two models is better?
#
# Two intervals that overlap do **not** show that two models are equally good, since both were tried on the *same* patients: a
# difficult patient is difficult for both, and that part of the chance cancels in the difference. So bootstrap the **difference**, in
# the same samples (a *paired* comparison). Model B: a logistic regression that looks at all fourteen outputs of model A, fitted on validation
# X-rays. Can it make more of them?

# %% tags=["example"]
inputs = [logit(util.clip_probabilities(table.p)) for table in (valid, test)]
second = np.full_like(test.p, np.nan)
for k in np.flatnonzero((valid.y.min(axis=0) == 0) & (valid.y.max(axis=0) == 1)):
    second[:, k] = LogisticRegression(C=0.1, max_iter=1000).fit(inputs[0], valid.y[:, k]).predict_proba(inputs[1])[:, 1]

gain = util.bootstrap_auroc(test.y, np.nan_to_num(second), patient, counts) - areas_all
low, high = util.percentile_interval(gain)
value = per_finding(util.auroc, test.y, np.nan_to_num(second)) - by_patient["AUROC"].to_numpy()
paired = pd.DataFrame({"AUROC": value, "low": low, "high": high}, index=FINDINGS)
fig, ax = plt.subplots(figsize=(8, 4.6))
util.plot_intervals(ax, {"": paired})
ax.axvline(0, color="#999999", ls=":")
ax.set_xlabel("AUROC of model B − AUROC of model A, same test patients")
util.sign_figure(fig, source)
better, worse = ", ".join(paired.index[paired["low"] > 0]), ", ".join(paired.index[paired["high"] < 0])
print(util.readable(f"B is better (interval above zero): {better or 'none'}. B is worse (interval below zero): {worse or 'none'}."))

# %% [markdown]
# *Figure 17. Paired differences of two models with 95 % intervals (patients drawn). Fourteen intervals are fourteen chances to be misled:
# one in twenty excludes zero by luck alone.*
#
# The textbook test for two correlated AUROCs is **DeLong's** (1988). It is fast and needs no random numbers, but it assumes that the X-rays
# are independent. With several of one patient they are not, and the bootstrap by patient is the safer choice.
#
# **Summary.** No number without an interval; no interval from X-rays where patients have several. Plan the number of ill patients
# beforehand. Compare models by the paired difference. An interval covers chance in *who was sampled*. It does not cover wrong labels,
# another hospital, or a threshold chosen on the test set.
#
# *Further exercises.* (1) ★★ Why do five copies of each X-ray shrink the X-ray-wise intervals by about $\sqrt 5$? (2) ★★ Lower `shared` from 0.8
# to 0 in the simulation. What happens to the left panel of Figure 16, and why? (3) ★★★ Write DeLong's test and compare its intervals with
# those of Figure 17.
#
# <details><summary>Answers</summary>
#
# (1) The standard error of a mean falls with $\sqrt n$, and drawing X-rays believes in five times as many of them. (2) X-rays of one patient
# are then independent, drawing X-rays is right, and the coverage returns to about 95 %. (3) Where patients have one X-ray the two agree closely; where
# they have several DeLong's intervals are too short.
# </details>

# %% [markdown]
# ## 2.9 Precision and recall, and F1
#
# *5 minutes. The question: what does the list of alarms look like to the person who works through it?*
#
# When a finding is rare, a small false positive *rate* is still a large *number* of false alarms, and the ROC curve, which
# shows rates, looks better than the work list feels. The **precision–recall curve** shows what the radiologist who works
# through the alarms sees: *precision* (another name for PPV) against *recall* (another name for sensitivity).
#
# Its summary is the **average precision**, the precision at each step of recall, weighted by the size of the step:
#
# $$\text{AP} = \sum_n (R_n - R_{n-1})\, P_n$$
#
# A model that guesses has an AUROC of 0.5, but an AP equal to the **prevalence**. So an AP of 0.3 may be excellent or
# poor. Never compare APs across findings, or across test sets, without the prevalence beside them.
#
# At *one* threshold, the **F1 score** is the harmonic mean of precision and recall:
#
# $$F_1 = \frac{2 \cdot \text{precision} \cdot \text{recall}}{\text{precision} + \text{recall}} = \frac{2\,TP}{2\,TP + FP + FN}$$
#
# It does not look at true negatives at all. (In notebook 3 it comes back under the name **Dice coefficient**.)


# %%
def f1_at(y, p, th=0.5):
    """F1 score at a threshold, by scikit-learn."""
    return f1_score(y, p >= th, zero_division=np.nan)


tp, fp, fn = true_positives(y, p, cut), false_positives(y, p, cut), false_negatives(y, p, cut)
by_count = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else np.nan
print(f"{EXAMPLE}: F1 by scikit-learn {f1_at(y, p, cut):.4f}, from the counts {by_count:.4f}")

fig = util.plot_curve_grid("pr", test.y, test.p, FINDINGS, points=thresholds)
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 18. Precision–recall curves on the test X-rays. Dotted: the prevalence, which is what guessing gets. Orange: the
# threshold chosen in 2.7. Hold it against Figure 10: the findings need not rank the same, for here the rare ones, whose
# dotted line lies lower, have a harder time.*

# %%
metrics |= {"F1": f1_at}
caption = "Table 7. The complete performance table of the test X-rays, at Youden's thresholds from validation."
util.show_performance_table(performance(), caption, source)

# %% [markdown]
# **Summary.** ROC asks "how well are ill and healthy separated?", precision–recall asks "what will my list of alarms look
# like?". The second depends on prevalence, as the work does.
#
# *Further exercise.* ★ Remove half of the healthy test patients at random. What happens to AUROC, AP, sensitivity and PPV?
#
# <details><summary>Answer</summary>
#
# AUROC and sensitivity stay the same but for chance; AP and PPV rise, since half of the false alarms are gone. The model is the same.
# </details>

# %% [markdown]
# ## 2.10 Calibration: does 0.73 mean 73 %?
#
# *20 minutes. The question: may a doctor believe the number?*
#
# So far only the *order* of the predictions mattered. But a probability claims more. If a model is **calibrated**, then
# among all X-rays to which it gives a probability near 0.7, about 70 % show the finding:
#
# $$P(y = 1 \mid \hat p = q) = q \quad \text{for every } q$$
#
# To look at it, sort the X-rays into bins by $\hat p$ and compare, in each bin, the mean prediction with the share that is
# really positive: the **reliability diagram**.

# %%
frequent = np.argsort(-test.y.sum(axis=0), kind="stable")[:4]
fig, axes = plt.subplots(2, 4, figsize=(11, 4.6), sharex=True, sharey="row", height_ratios=[3, 1])
for column, k in enumerate(frequent):
    util.plot_reliability(axes[:, column], test.y[:, k], test.p[:, k])
    axes[0, column].set_title(FINDINGS[k].replace("_", " "))
    axes[0, column].set_aspect("equal")
axes[0, 0].set_ylabel("share with finding")
axes[1, 0].set(ylabel="X-rays", xlabel="predicted probability", xticks=[0, 0.5, 1])
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 19. Reliability diagrams of the four most frequent findings in the test X-rays, ten bins each; below, the number of
# X-rays per bin (logarithmic). On the dotted diagonal the probabilities mean what they say. Below it the model exaggerates,
# above it the model understates. A point that stands on a handful of X-rays may be anywhere by chance.*
#
# One number for it is the **expected calibration error**: cut $[0, 1]$ into $B$ bins of equal width, and average the gap
# between what was said and what was so, weighting each bin with its number of X-rays:
#
# $$\text{ECE} = \sum_{b=1}^{B} \frac{n_b}{n}\, \left|\, \bar y_b - \bar p_b \,\right|$$
#
# ### Exercise 8 (12 points)
#
# Write `expected_calibration_error`. Empty bins contribute nothing; a prediction of exactly 1 belongs to the last bin;
# without X-rays the result is `nan`.
#
# <details><summary>Hint</summary>
#
# The bin of each X-ray is `np.minimum((pred * n_bins).astype(int), n_bins - 1)`. Loop over the bins, skip the empty ones.
# The gap is between the mean *label* and the mean *prediction* of the bin, not the middle of the bin.
# </details>


# %% exercise="expected_calibration_error"
def expected_calibration_error(y, pred, n_bins=10):
    """Expected calibration error with bins of equal width, weighted by the X-rays in each.

    Parameters
    ----------
    y : array of 0 and 1, shape (n,)
    pred : array of float in [0, 1], shape (n,)
    n_bins : int

    Returns
    -------
    float
    """
    ### BEGIN SOLUTION
    y, pred = np.asarray(y, dtype=float), np.asarray(pred, dtype=float)
    if y.size == 0:
        return float("nan")
    bins = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    error = 0.0
    for b in range(n_bins):
        inside = bins == b
        if inside.any():
            error += inside.mean() * abs(y[inside].mean() - pred[inside].mean())
    return float(error)
    ### END SOLUTION


# %% check="expected_calibration_error" points=12
public_tests.expected_calibration_error_test(expected_calibration_error)

# %% [markdown]
# The **Brier score** is the mean squared error of the probabilities, $\frac1n \sum_i (\hat p_i - y_i)^2$. It rewards both
# calibration *and* separation, and no dishonest probability improves its expectation (it is a *proper* score). Always
# saying the prevalence $\pi$ scores $\pi (1-\pi)$. A model that does worse has *probabilities* that are worse than none at all; its
# order of patients, which the AUROC measures, may still be useful.

# %%
table = pd.DataFrame(
    {
        "prevalence": test.y.mean(axis=0),
        "mean prediction": test.p.mean(axis=0),
        "ECE": per_finding(expected_calibration_error, test.y, test.p),
        "Brier": per_finding(brier_score_loss, test.y, test.p),
        "Brier of saying the prevalence": test.y.mean(axis=0) * (1 - test.y.mean(axis=0)),
    },
    index=FINDINGS,
)
util.show_table(table, "Table 8. Calibration of the model's probabilities on the test X-rays.", source)
quiet = int((table["Brier"] > table["Brier of saying the prevalence"]).sum())
says, true = table["mean prediction"].mean(), table["prevalence"].mean()
print(f"On average the model says {says:.3f} where {true:.3f} is true.")
print(f"For {quiet} of 14 findings its Brier score is worse than that of always saying the prevalence.")

# %% [markdown]
# ### Where it comes from: the weighted loss
#
# The model behind these tables was trained with a **class-weighted loss** (notebook 1 measures what that is good for). With $w^+$ on positives and
# $w^-$ on negatives, an X-ray whose true probability is $q$ costs, on average, $-w^+ q \log \hat p - w^- (1-q) \log(1-\hat p)$.
# Set the derivative to zero: the *best possible* answer to this loss is not $q$ but
#
# $$\hat p = \frac{w^+ q}{w^+ q + w^- (1-q)}, \qquad\text{that is}\qquad
#   \operatorname{logit} \hat p = \operatorname{logit} q + \log \frac{w^+}{w^-}$$
#
# With the weights of notebook 1, $w^+ = 1 - \pi$ and $w^- = \pi$, all log-odds are shifted by $\log\frac{1-\pi}{\pi}$. At a
# prevalence of 2 %, an X-ray with a true probability of 2 % gets $\hat p = 0.5$. The model is not broken: it answers the
# question that its loss has asked. The shift changes no order, so no AUROC; it changes every probability.

# %%
pi_train = (predictions.train or valid).y.mean(axis=0)
with np.errstate(divide="ignore"):
    shift = np.log((1 - pi_train) / pi_train)

unshifted = expit(logit(util.clip_probabilities(valid.p)) - shift)
true, before, after = valid.y.mean(axis=0), valid.p.mean(axis=0), unshifted.mean(axis=0)
fig, ax = plt.subplots(figsize=(8, 4.4))
ax.plot([1e-3, 1], [1e-3, 1], ":", color="#777777")
ax.plot(true, before, "o", color="C1", label="as the model says it")
ax.plot(true, after, "^", color="C0", label="shift of the weighted loss undone")
ax.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(3e-4, 1), aspect="equal")
ax.set(xlabel="share of X-rays with the finding", ylabel="mean prediction")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
util.sign_figure(fig, source)

closer = int((np.abs(after - true) < np.abs(before - true)).sum())
print(f"Undoing the shift brings the mean prediction closer to the truth for {closer} of 14 findings.")
print("It seems that this model", "was" if closer > 7 else "was not", "trained with the weighted loss.")

# %% [markdown]
# *Figure 20. Calibration in the large, on validation X-rays: each dot is a finding. On the diagonal the model says, on
# average, what is true. For a model trained with the weighted loss the orange dots hang far above it, near one half, the
# more so the rarer the finding, and undoing the shift brings them down. For a model that was trained without weights it is
# the other way round: nothing has to be undone, and doing it anyway does harm.*
#
# ### Mending it
#
# A calibrator is a map from predictions to better ones, **fitted on validation X-rays**. From stiff to flexible:
#
# | method | map | parameters |
# | --- | --- | --- |
# | undoing the weights | $\operatorname{logit} \hat p - \log\frac{1-\pi}{\pi}$ | none: it is known |
# | temperature (Guo and others, 2017) | $\operatorname{logit} \hat p \,/\, T$ | 1 |
# | Platt (1999) | $a \operatorname{logit} \hat p + b$ | 2 |
# | isotonic regression (Zadrozny and Elkan, 2002) | any rising staircase | as many as the data ask for |
#
# Before you run it: *which of them cannot undo a shift?*


# %%
# Each method is fitted to labels y and predictions p of finding k and returns the map to apply to others.
def log_odds(p):
    """Log-odds of probabilities, finite also for 0 and 1."""
    return logit(util.clip_probabilities(p))


def as_it_is(y, p, k):
    return lambda q: q


def weights_undone(y, p, k):
    return lambda q: expit(log_odds(q) - shift[k])


def temperature(y, p, k):
    T = util.fit_temperature(y, p)
    return lambda q: expit(log_odds(q) / T)


def platt(y, p, k):
    fit = LogisticRegression(C=np.inf).fit(log_odds(p)[:, None], y)
    return lambda q: fit.predict_proba(log_odds(q)[:, None])[:, 1]


def isotonic(y, p, k):
    return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y).predict


METHODS = {"as it is": as_it_is, "weights undone": weights_undone, "temperature": temperature, "Platt": platt, "isotonic": isotonic}
both_classes = (valid.y.min(axis=0) == 0) & (valid.y.max(axis=0) == 1)
calibrated = {}  # method → predictions for the test X-rays
for method, fit in METHODS.items():
    calibrated[method] = np.full_like(test.p, np.nan)
    for k in np.flatnonzero(both_classes & np.isfinite(shift)):
        calibrated[method][:, k] = fit(valid.y[:, k], valid.p[:, k], k)(test.p[:, k])

# %% [markdown]
# One more effect remains. A calibrator learns the prevalence of the *validation* X-rays. If the test X-rays come from another
# place, where more people are ill, its probabilities will be too low there, and by the same law as above: the log-odds are
# off by the difference of the prevalences' log-odds (Saerens and others, 2002). Whoever knows the local prevalence can add
# it. In the last row of the table we do, and take the prevalence from the test labels, which is a little bit of cheating.

# %%
there, here = valid.y.mean(axis=0), test.y.mean(axis=0)
usable = np.flatnonzero(np.isfinite(calibrated["Platt"]).all(axis=0) & (here > 0) & (here < 1))
moved = np.full_like(test.p, np.nan)
moved[:, usable] = expit(log_odds(calibrated["Platt"]) + logit(here) - logit(there))[:, usable]
calibrated["Platt, local prevalence"] = moved


def log_loss_of(y, q):
    """Mean negative log-likelihood of the labels."""
    return log_loss(y, util.clip_probabilities(q), labels=[0, 1])


def line_through(y, q):
    """Calibration intercept and slope: the logistic regression of the labels on the log-odds; 0 and 1 when calibrated."""
    fit = LogisticRegression(C=np.inf).fit(log_odds(q)[:, None], y)
    return fit.intercept_[0], fit.coef_[0, 0]


scores = {"ECE": expected_calibration_error, "Brier": brier_score_loss, "log loss": log_loss_of, "AUROC": util.auroc}
rows = {}
for method, q in calibrated.items():
    truth, said = test.y[:, usable], q[:, usable]
    rows[method] = {"mean prediction": said.mean(), "share with finding": truth.mean()}
    rows[method] |= {name: per_finding(score, truth, said).mean() for name, score in scores.items()}
    lines = per_finding(line_through, truth, said).reshape(-1, 2)
    rows[method] |= dict(zip(["intercept", "slope"], np.median(lines, axis=0), strict=True))
calibration = pd.DataFrame(rows).T
caption = (
    "Table 9. Calibration on the test X-rays, fitted on validation X-rays; mean over the findings (intercept and slope: median)."
)
util.show_table(calibration, caption, source, 4)

# %% tags=["example"] picture=[0, 0, 0.52, 0.95]
k = FINDINGS.index(EXAMPLE)
fig, axes = plt.subplots(2, 6, figsize=(11.2, 3.6), sharex=True, sharey="row", height_ratios=[3, 1])
for column, (method, q) in enumerate(calibrated.items()):
    if not np.isfinite(q[:, k]).all():
        continue
    colour = "C1" if method == "as it is" else "C0"
    util.plot_reliability(axes[:, column], y, q[:, k], colour=colour)
    axes[0, column].set_aspect("equal")
    name = method.replace(", ", ",\n")
    axes[0, column].set_title(f"{name}\nECE {expected_calibration_error(y, q[:, k]):.3f}", fontsize=9)
axes[0, 0].set_ylabel("share with finding")
axes[1, 0].set(ylabel="X-rays", xticks=[0, 0.5, 1])
axes[1, 0].set_xlabel(f"predicted probability of {EXAMPLE.lower()}", loc="left")
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 21. The example on test X-rays, before (orange) and after (blue) calibration on validation X-rays. Temperature
# scaling can only stretch or squeeze the log-odds around $\hat p = 0.5$, so it cannot undo a shift; Platt's $b$ can. What is left
# after Platt is not all the model's: the validation labels are noisier than the test labels (2.12), so a map fitted to them is a
# little too flat for these.*
#
# Statisticians sum up a reliability diagram in two numbers, the **calibration intercept and slope** of Table 9: 0 and 1 are right, an
# intercept below 0 means probabilities that are too high, a slope below 1 probabilities that are too extreme.
#
# Look at the column AUROC of Table 9. Undoing the weights, temperature and Platt (with $a > 0$) are **strictly rising**
# maps: they keep the order of all X-rays and so the AUROC, to the last digit. Isotonic regression is a staircase: X-rays on
# the same step become ties, and the AUROC can move a little. Conversely, *no AUROC, however high, shows that probabilities
# are right*.
#
# Calibrated probabilities also make the choice of a threshold trivial. If a miss costs $c_{FN}$ and a false alarm $c_{FP}$,
# raising the alarm pays off exactly when $\hat p\, c_{FN} > (1 - \hat p)\, c_{FP}$:
#
# $$\tau = \frac{c_{FP}}{c_{FP} + c_{FN}}$$

# %%
tau = COST_OF_ALARM / (COST_OF_ALARM + COST_OF_MISS)
print(f"One miss counts as {COST_OF_MISS / COST_OF_ALARM:g} false alarms, so: alarm from {tau:.3f} on.")

costs = {}
for name, q, cut in [
    ("alarm nobody", np.zeros_like(test.p), np.full(14, 0.5)),
    ("alarm everybody", np.ones_like(test.p), np.full(14, 0.5)),
    ("0.5, as it is", test.p, np.full(14, 0.5)),
    (f"{tau:.3f}, as it is", test.p, np.full(14, tau)),
    ("searched on validation (2.7)", test.p, chosen["cost"]),
    (f"{tau:.3f}, Platt", calibrated["Platt"], np.full(14, tau)),
    (f"{tau:.3f}, Platt, local prevalence", moved, np.full(14, tau)),
]:
    costs[name] = per_finding(cost_per_thousand, test.y[:, usable], q[:, usable], cut[usable]).mean()
frame = pd.DataFrame({"cost per 1,000 X-rays": costs}).rename_axis("threshold")
util.show_table(frame, "Table 10. Cost of the errors on the test X-rays, mean over findings.", source, 1)

# %% [markdown]
# The first two rows need no model at all. A model that costs more than the better of them is not worth using at these costs, which is
# the subject of the next section.
#
# **Summary.** Separation (AUROC) and calibration are two different virtues. A weighted loss shifts all probabilities and leaves the order alone;
# a map with two parameters, fitted on validation X-rays, shifts them back, as far as validation and test X-rays come from the same
# world. Whoever shows a probability to a doctor owes a reliability diagram.
#
# *Further exercises.* (1) ★ Compute the ECE with 5, 10, 20 and 50 bins. Why does it grow? (2) ★★ Fit the isotonic map on the 100
# first validation X-rays only, and look at its ECE on validation and on test. (3) ★★ Put an interval on the ECE with
# `util.bootstrap_metric`. Is it centred on the ECE?
#
# <details><summary>Answers</summary>
#
# (1) The fewer X-rays in a bin, the more their mean label is off by chance, and the ECE takes every gap as an error. (2) Near 0 on the
# X-rays it was fitted on, clearly larger on test: a staircase has as many parameters as steps. (3) No: noise within the bins adds to it, so
# bootstrap samples lie above. ECE is biased upwards.
# </details>

# %% [markdown]
# ## 2.11 Is it worth using?
#
# *15 minutes. The question: does acting on the model do more good than treating everybody alike?*
#
# AUROC does not say it, calibration does not say it. Two strategies need no model: *alarm everybody* and *alarm nobody*. A model is worth
# using where it beats **both**. To compare, good and harm must be put on one scale. Somebody who acts from a probability of $\tau$ on says
# by that: one found patient is worth $(1 - \tau)/\tau$ false alarms. At $\tau = 1/6$ that is 5 : 1. **Net benefit** (Vickers and Elkin, 2006)
# counts in found patients per patient examined:
#
# $$\text{net benefit}(\tau) = \frac{TP}{n} - \frac{FP}{n} \cdot \frac{\tau}{1 - \tau}$$
#
# ### Exercise 9 (10 points)
#
# Write `net_benefit(y, pred, th)`. Positive means `pred >= th`. Without X-rays it is `nan`. At `th = 1` a false alarm weighs infinitely
# much: the result is $-\infty$ if there is one, else $TP/n$.


# %% exercise="net_benefit"
def net_benefit(y, pred, th):
    """Net benefit of acting when pred >= th, in true positives per patient.

    Parameters
    ----------
    y : array of 0 and 1, shape (n,)
    pred : array of float, shape (n,)
    th : float
        Probability from which one acts, in [0, 1]; a found patient is worth (1 − th) / th false alarms.

    Returns
    -------
    float
    """
    ### BEGIN SOLUTION
    n = len(y)
    if n == 0:
        return float("nan")
    found, alarms = true_positives(y, pred, th) / n, false_positives(y, pred, th) / n
    if th == 1:
        return -float("inf") if alarms else found
    return found - alarms * th / (1 - th)
    ### END SOLUTION


# %% check="net_benefit" points=10
public_tests.net_benefit_test(net_benefit)

# %% [markdown]
# The **decision curve** draws it over all thresholds that somebody might hold. The probabilities are the ones after Platt, since a threshold on
# probabilities that are not true means nothing.
#
# <details><summary>Predict first: where do the lines of "alarm everybody" and "alarm nobody" cross?</summary>
#
# At $\tau$ = prevalence. There $\pi - (1 - \pi)\, \tau / (1 - \tau) = 0$.
# </details>

# %% tags=["example"]
k = FINDINGS.index(EXAMPLE)
taus = np.linspace(0.005, 0.6, 120)
honest = calibrated["Platt"][:, k]
curves = {
    "model, after Platt": [net_benefit(y, honest, t) for t in taus],
    "model, as it is": [net_benefit(y, p, t) for t in taus],
    "alarm everybody": [net_benefit(y, np.ones(y.size), t) for t in taus],
    "alarm nobody": [net_benefit(y, np.zeros(y.size), t) for t in taus],
}
fig, ax = plt.subplots(figsize=(8, 4))
for (name, values), style in zip(curves.items(), ["-", "--", ":", "-"], strict=True):
    ax.plot(taus, values, style, color="black" if name == "alarm nobody" else None, lw=1 if "alarm" in name else 2, label=name)
ax.axvline(tau, color="#999999", lw=1)
ax.text(tau, 1.02 * get_prevalence(y), f" {COST_OF_MISS / COST_OF_ALARM:g} : {COST_OF_ALARM:g}", fontsize=9, color="#555555")
ax.set(ylim=(-0.3 * get_prevalence(y), 1.15 * get_prevalence(y)), xlim=(0, 0.6))
ax.set(xlabel="probability from which one would act", ylabel="net benefit")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
util.sign_figure(fig, source)

# %% [markdown]
# *Figure 22. Decision curve of the example on test X-rays. Where the thick blue line is the highest, the model is worth using; grey: the
# costs of 2.7. The dashed line shows what probabilities that are too high do: people act too early, and the same model can do harm.*
#
# Now all findings at one exchange rate, each with the interval of its advantage over the better of the two strategies without a model
# (bootstrap of the paired difference, patients drawn):


# %%
def mean_in_samples(values):
    """Means over X-rays of values (X-rays, findings), in each bootstrap sample of patients: (samples, findings)."""
    sums, sizes = np.zeros((counts.shape[0], values.shape[1])), np.bincount(patient)
    np.add.at(sums, patient, values)
    return (counts.T @ sums) / (counts.T @ sizes)[:, None]


def benefit_of_each(alarm):
    """What each X-ray adds to the net benefit of an alarm (X-rays, findings)."""
    return test.y * alarm - (1 - test.y) * alarm * tau / (1 - tau)


use = benefit_of_each(np.nan_to_num(calibrated["Platt"]) >= tau)
everybody = benefit_of_each(np.ones_like(test.p))
baseline = np.maximum(everybody.mean(axis=0), 0)
drawn = mean_in_samples(use) - np.where(everybody.mean(axis=0) > 0, mean_in_samples(everybody), 0)
low, high = util.percentile_interval(drawn)
worth = pd.DataFrame({"advantage": 1000 * (use.mean(axis=0) - baseline), "low": 1000 * low, "high": 1000 * high}, index=FINDINGS)
worth = worth.iloc[usable]
fig, ax = plt.subplots(figsize=(8, 4.6))
util.plot_intervals(ax, {"": worth}, "advantage")
ax.axvline(0, color="#999999", ls=":")
ax.set_xlabel("net benefit over the better of “everybody” and “nobody”, in found patients per 1,000 X-rays")
util.sign_figure(fig, source)
none = ", ".join(worth.index[worth["low"] <= 0])
print(
    util.readable(f"At {COST_OF_MISS} : {COST_OF_ALARM} the interval includes zero, or lies below it, for: {none or 'no finding'}.")
)

# %% [markdown]
# *Figure 23. What the model adds on test X-rays at the exchange rate of 2.7, with 95 % intervals. For findings at zero the model, however good its
# AUROC, changes no decision for the better at this rate: the finding is too rare, or too many are alarmed for one who is found.*
#
# **Summary.** A model is worth using where its net benefit exceeds that of alarming everybody and of alarming nobody, at an exchange rate that those
# concerned would accept. Report the curve over the range of reasonable rates.
#
# *Further exercises.* (1) ★ Set `COST_OF_MISS` to 20 and run from 2.7 on. For which findings does the advantage appear? (2) ★★ Which point of the ROC curve has
# the largest net benefit at a given $\tau$? (3) ★★ Show that the cost of 2.7 and the net benefit choose the same threshold.
#
# <details><summary>Answers</summary>
#
# (1) Read it off Figure 23; rare findings need a high rate before an alarm pays. (2) The one whose tangent has the slope
# $\frac{1 - \pi}{\pi} \cdot \frac{\tau}{1 - \tau}$. (3) With $\tau = c_{FP}/(c_{FP} + c_{FN})$, cost $= c_{FN}\, n\, (\pi - \text{net benefit})$: one falls when
# the other rises.
# </details>

# %% [markdown]
# ## 2.12 For whom, and against which truth?
#
# *15 minutes. The question: is it worse for some, and who says what is true?*
#
# ### Subgroups
#
# A mean over all patients can hide that some are served worse. So the same numbers are computed per group, by sex, by view
# and by age, **with intervals**, because groups are smaller than the whole. For findings with fewer than five ill (or
# healthy) patients' X-rays in a group, nothing is computed.


# %%
def say_who_is_missing(kind, members):
    """Print which groups are empty, and how many X-rays are in none because the table does not say."""
    empty = [name for name, rows in members.items() if not rows.any()]
    nowhere = (~np.any(list(members.values()), axis=0)).sum()
    if empty:
        print(f"By {kind}, no test X-ray belongs to: {', '.join(empty)}. Nothing is compared there.")
    if nowhere:
        print(
            f"By {kind}, {nowhere:,} of {len(test):,} test X-rays belong to no group, because the table does not say it (notes above)."
        )


def subgroups(about):
    """Rows of each group that the columns of the table allow: {kind: {name: boolean array}}."""
    groups = {}
    for kind, column, names in [
        ("sex", "Patient Gender", {"F": "women", "M": "men"}),
        ("view", "View Position", {"PA": "PA view", "AP": "AP view"}),
    ]:
        if column in about:
            groups[kind] = {name: (about[column] == value).to_numpy() for value, name in names.items()}
            say_who_is_missing(kind, groups[kind])
        else:
            print(f"The table has no column {column}: no subgroups by {kind}.")
    if "Patient Age" in about:
        age = pd.to_numeric(about["Patient Age"], errors="coerce").to_numpy()
        middle = (age >= 40) & (age < 60)
        groups["age"] = {"under 40": age < 40, "40 to 59": middle, "60 and older": age >= 60}
        say_who_is_missing("age", groups["age"])
    else:
        print("The table has no column Patient Age: no subgroups by age.")
    return groups


def examine(members):
    """Performance in each group of one kind; bootstrap samples of the mean AUROC, on the same draws."""
    least = [np.minimum(test.y[rows].sum(axis=0), (1 - test.y[rows]).sum(axis=0)) for rows in members.values()]
    enough = np.flatnonzero(np.min(least, axis=0) >= 5)
    results, drawn = {}, {}
    for name, rows in members.items() if enough.size else ():
        y, p, cut = test.y[rows][:, enough], test.p[rows][:, enough], thresholds[enough]
        drawn[name] = np.nanmean(util.bootstrap_auroc(y, p, patient[rows], counts), axis=1)
        results[name] = {
            "X-rays": len(y),
            "patients": len(np.unique(patient[rows])),
            "findings": enough.size,
            "prevalence": y.mean(),
            "sensitivity": np.nanmean(per_finding(get_sensitivity, y, p, cut)),
            "specificity": np.nanmean(per_finding(get_specificity, y, p, cut)),
            "said / true": np.nanmean(calibrated["Platt"][rows][:, enough]) / y.mean(),
            "ECE": np.nanmean(per_finding(expected_calibration_error, y, np.nan_to_num(calibrated["Platt"][rows][:, enough]))),
            "AUROC": per_finding(util.auroc, y, p).mean(),
        } | dict(zip(["low", "high"], util.percentile_interval(drawn[name]), strict=True))
    return results, drawn


rows, differences = {}, {}
for members in subgroups(test.about).values():
    results, drawn = examine(members)
    rows |= results
    if drawn:
        first, *_, last = drawn
        low, high = util.percentile_interval(drawn[first] - drawn[last])
        value = results[first]["AUROC"] - results[last]["AUROC"]
        differences[f"{first} − {last}"] = {"difference of AUROC": value, "low": low, "high": high}

if rows:
    by_group = pd.DataFrame(rows).T.astype({"X-rays": int, "patients": int, "findings": int})
    caption = "Table 11. Subgroups of the test X-rays: mean over findings with enough cases; calibration after Platt."
    util.show_table(by_group, caption, source)
    fig, ax = plt.subplots(figsize=(8, 0.45 * len(by_group) + 1))
    util.plot_intervals(ax, {"": by_group})
    ax.set_xlabel("mean AUROC over the findings")
    util.sign_figure(fig, source)
else:
    print("There is nothing to compare. Report that, too: nobody knows for whom this model is worse.")

# %% [markdown]
# *Figure 24. Mean AUROC per subgroup with 95 % intervals (patients drawn). Within a kind of group the same findings are
# averaged; between kinds they may differ, so compare only women with men, PA with AP, young with old. (Drawn only when the
# table has the columns.)*
#
# The column *said / true* divides the mean probability by the share that really is positive: 1 is right, 1.3 means that the group is told a
# risk that is 30 % too high. A model can order the patients of every group well and still be wrong for one of them here.
#
# Do not compare groups by looking whether intervals overlap. Bootstrap the **difference**, on the same samples; a patient
# with X-rays in both groups is then handled rightly:

# %%
if differences:
    frame = pd.DataFrame(differences).T
    util.show_table(frame, "Table 12. Differences of the mean AUROC, with 95 % intervals.", source)
    clear = [name for name, row in differences.items() if row["low"] > 0 or row["high"] < 0]
    print("Intervals that leave out zero:", "; ".join(clear) or "none. That does not prove equality.")

# %% [markdown]
# What may a difference mean? At least five things, and the table cannot tell them apart:
#
# * **The model** is worse for the group, for instance because it met fewer such patients in training.
# * **The X-rays** are harder: AP X-rays are taken at the bedside, of sicker people, with tubes in place and a magnified heart.
# * **The spectrum** differs: one group has large effusions, the other small ones.
# * **The labels** are worse in one group; or **chance**: many groups times many findings always yield some "difference".
#
# Equal AUROC is not equal care either: at *one* threshold, sensitivity and PPV can differ between groups with equal AUROC.
# And the worst case is invisible in any subgroup table: people who never got an X-ray at all.
#
# ### Report-derived against manual labels
#
# What has been called "truth" is a label somebody made. The labels of large archives were mined from reports by a program;
# a radiologist who looks at the X-ray again often disagrees. Where the test table has both, treat the report-derived label as if
# it were a *diagnostic test* for the manual one. Your functions do it. Cohen's **kappa** measures agreement beyond chance:
# $\kappa = (p_o - p_e)/(1 - p_e)$, 1 for perfect agreement, 0 for what two people get who toss coins with the same
# prevalences.

# %%
if test.mined is None:
    print("This test table has one kind of label only (no columns F_mined): nothing to compare.")
    print("Ask how the labels were made.")
else:
    manual, mined = test.y, test.mined
    # kappa of a constant is undefined
    both = (np.ptp(manual, axis=0) > 0) & (np.ptp(mined, axis=0) > 0)
    labels = pd.DataFrame(
        {
            "manual positives": manual.sum(axis=0),
            "report-derived positives": mined.sum(axis=0),
            "agreement": per_finding(get_accuracy, manual, mined),
            "kappa": np.where(both, per_finding(cohen_kappa_score, manual, mined), np.nan),
            "sensitivity of the report labels": per_finding(get_sensitivity, manual, mined),
            "PPV of the report labels": per_finding(get_ppv, manual, mined),
            "AUROC, manual": per_finding(util.auroc, manual, test.p),
            "AUROC, report-derived": per_finding(util.auroc, mined, test.p),
        },
        index=FINDINGS,
    )
    caption = "Table 13. Report-derived against manual labels of the same X-rays, and the model against both."
    util.show_table(labels, caption, source)
    by_mined = intervals(mined, test.patients)
    fig, ax = plt.subplots(figsize=(8, 5))
    util.plot_intervals(ax, {"against manual labels": by_patient, "against report-derived labels": by_mined})
    util.sign_figure(fig, source)
    gap = labels["AUROC, manual"].mean() - labels["AUROC, report-derived"].mean()
    than = "higher" if gap > 0 else "lower"
    print(f"Mean kappa {labels['kappa'].mean():.2f}.")
    print(f"Judged by manual labels, the mean AUROC is {abs(gap):.3f} {than} than by report-derived ones.")

# %% [markdown]
# *Figure 25. The same predictions for the same X-rays, judged by two kinds of labels, with 95 % intervals. (Drawn only when
# the table has both.)*
#
# Random errors in the test labels pull the measured AUROC towards 0.5: part of the "errors" of the model are errors of the
# label. *Systematic* errors do the opposite: a model that was trained on report-derived labels has learned their habits, and
# is rewarded for them as long as the test labels have the same habits. So a model can look better on report-derived labels than
# it is. Only a reference standard that was made independently, and better by several readers than by one, can tell.
#
# **Summary.** Ask of every performance number: *in whom*, and *against what*? Report subgroups with intervals and the way
# the labels were made, also where nothing can be said about them.
#
# *Further exercises.* (1) ★★ Take findings one by one instead of the mean: how many of the comparisons come out "significant"
# at 5 %? How many would by chance? (2) ★★ Flip 10 % of the manual labels at random. How far does each AUROC fall? Why do the
# rare findings lose most?
#
# <details><summary>Answers</summary>
#
# (1) By chance one in twenty. (2) Of a finding with a prevalence of 1 %, flipping makes ten new "positives" for each real one, all of them healthy: the
# AUROC falls nearly to 0.5. Of a frequent one most positives stay what they are.
# </details>

# %% [markdown]
# ## 2.13 What a report must contain, and what it does not prove
#
# *10 minutes. The question: what would you want to read before you let this model near a patient?*
#
# All of the above is *internal* evidence: one model, one set of X-rays, one way of labelling. Three checklists say what a report owes its
# readers: **STARD-AI** (diagnostic accuracy studies), **TRIPOD+AI** (prediction models) and **CLAIM 2024** (imaging AI). In short:
#
# | item | what to write | here |
# | --- | --- | --- |
# | intended use | for whom, at which point of care, to decide what | none: a course |
# | participant flow | who was eligible, who was left out at each step and why | Table 14 |
# | reference standard | who made the labels, from what, blinded to the model? | Table 13 |
# | who got it | were all patients verified by the same reference? | see below |
# | sample size | how many ill patients, planned for which precision | Table 6 |
# | indeterminate results | X-rays that could not be read or judged, and what was done with them | Table 14 |
# | threshold | how it was chosen, on whom | 2.7 |
# | performance | discrimination *and* calibration, with intervals by patient | Tables 7, 9, 15 |
# | clinical usefulness | net benefit against "all" and "none" | Figure 23 |
# | subgroups | the same, by group, with intervals | Table 11 |
# | availability | code, weights, data, and what was tried and not shown | the whole repository |
#
# **Partial verification.** In most archives only some X-rays are read again by a radiologist, and not at random: those that a program or a report
# marked as suspicious. If the model's positives are more likely to be among them, sensitivity computed on the verified ones comes out too
# high and specificity too low. So a report says *which* X-rays got a manual reading and how they were chosen.

# %%
rows = {}
for name, table in [("training", predictions.train), ("validation", valid), ("test", test)]:
    if table is None:
        continue
    _, films_of_patient = np.unique(table.patients, return_counts=True)
    rows[name] = {
        "patients": films_of_patient.size,
        "X-rays": len(table),
        "most X-rays of one patient": films_of_patient.max(),
        "X-rays with a finding": table.y.any(axis=1).sum(),
        "with a manual reading": len(table) if table.mined is not None else 0,
        "without a prediction": np.isnan(table.p).any(axis=1).sum(),
    }
flow = pd.DataFrame(rows).T
util.show_table(flow, "Table 14. Participant flow, as far as the tables tell it.", source)

# %% [markdown]
# And between all this and a patient who is better off lie at least these questions:
#
# * **Spectrum.** Were the test patients those in whom the model would be used? Clear-cut cases against healthy volunteers
#   make any test shine (spectrum bias).
# * **Prevalence.** PPV, NPV, calibration and costs belong to the prevalence of the test set. A set that was enriched with
#   ill patients, as reader studies are, flatters the PPV.
# * **Labels.** A label is an opinion on a *X-ray*. The disease is in the *patient*; for some findings only a CT, a culture or
#   time will tell.
# * **Shortcuts.** A model can be right for a wrong reason: a chest drain for a pneumothorax, a marker of the portable
#   scanner for being ill. Notebook 1 builds such a trap on purpose. Test sets from the same hospital share the trap.
# * **Transport.** Another hospital, scanner, year. External validation is not a formality: performance usually falls.
# * **Choices.** Everything that was tried and looked at on the test X-rays, including by other people on a public test set,
#   was, a little, training.
# * **Use.** A doctor who sees the answer changes; so does one who never sees a negative. Whether patients benefit is shown by
#   trials of the *use*, not by any table here.
#
# To end, the one table that a paper would print, from test X-rays that nothing was chosen on:


# %%
def average_precision(y, p):
    """Average precision; nan without a positive X-ray."""
    return average_precision_score(y, p) if y.any() else np.nan


mended = np.full(14, np.nan)
at_threshold = util.performance_table(test.y, test.p, FINDINGS, metrics, thresholds)
by_platt = calibrated["Platt"][:, usable]
mended[usable] = per_finding(expected_calibration_error, test.y[:, usable], by_platt)
final = pd.DataFrame(
    {
        "positives": test.y.sum(axis=0),
        "AUROC": by_patient["AUROC"],
        "95 % interval": [f"{low:.3f}–{high:.3f}" for low, high in zip(by_patient["low"], by_patient["high"], strict=True)],
        "AP": per_finding(average_precision, test.y, test.p),
        "threshold": thresholds,
    }
    | {name: at_threshold[name] for name in ["Sensitivity", "Specificity", "PPV", "NPV"]}
    | {"ECE": per_finding(expected_calibration_error, test.y, test.p), "ECE, Platt": mended},
    index=FINDINGS,
)
caption = f"Table 15. The model on {len(test)} test X-rays of {len(np.unique(test.patients))} patients."
util.show_table(final, caption, source)

# %% [markdown]
# **Summary of the notebook.** Count the four answers. Look at the ill and the healthy separately, then at what an answer is
# worth where it is given. Show all thresholds, choose one on validation, for a reason. Put a patient-level interval on
# everything. Check that probabilities mean what they say. Ask for whom, and against which truth. Then say what was *not*
# shown.
#
# The sources of all formulas are listed in `lessons/glossary.md`.
#
# Next: notebook 3, where the answer is not one number per X-ray but one per voxel.

# %%
public_tests.summary()

# %%
util.headline(
    {
        "mean AUROC over the findings": by_patient["AUROC"].mean(),
        "mean average precision": final["AP"].mean(),
        "mean ECE as the model says it": calibration.loc["as it is", "ECE"],
        "mean ECE after Platt scaling": calibration.loc["Platt", "ECE"],
    },
    source,
)
