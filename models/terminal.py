"""What a program that trains or predicts shows at the terminal: progress, and one sentence for a user's mistake."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from data.errors import DataError
from data.progress import progress_bar


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the program with the message alone when the user can do something about it: no traceback."""
    try:
        yield
    except DataError as error:
        raise SystemExit(str(error)) from None


def training_progress() -> keras.callbacks.Callback:
    """Callback for `keras.Model.fit(…, verbose=0)`: one progress bar an epoch, with the loss so far."""

    class TrainingProgress(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.bar = progress_bar(
                total=self.params["steps"], description=f"epoch {epoch + 1}/{self.params['epochs']}", unit="step"
            )

        def on_train_batch_end(self, batch, logs=None):
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            self.bar.update()

        def on_epoch_end(self, epoch, logs=None):
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
            self.bar.close()

    return TrainingProgress()
