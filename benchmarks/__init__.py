"""How fast the course's networks are beside the same networks in PyTorch and MONAI. See README.md here."""

import models  # noqa: F401  settings of TensorFlow, before it is imported
