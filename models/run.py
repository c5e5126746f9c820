"""What every training shares: how it shows that it goes on."""

import keras
from tqdm import tqdm


def training_progress():
    """Callback for `keras.Model.fit(…, verbose=0)`: one progress bar an epoch, with the loss so far."""

    class TrainingProgress(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.bar = tqdm(total=self.params["steps"], desc=f"epoch {epoch + 1}/{self.params['epochs']}", unit="step")

        def on_train_batch_end(self, batch, logs=None):
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            self.bar.update()

        def on_epoch_end(self, epoch, logs=None):
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
            self.bar.close()

    return TrainingProgress()
