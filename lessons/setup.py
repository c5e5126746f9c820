# Finds the course: its folder, or the one that COURSE_DIR names, or the one that this environment was made in.
import os
import subprocess
import sys
from pathlib import Path

places = [Path.cwd(), *Path.cwd().parents, Path(os.environ.get("COURSE_DIR", ".")), Path(sys.prefix).parent]
if "google.colab" in sys.modules:  # Colab opens the notebook alone
    url = "https://github.com/REPOSITORY"
    clone = Path(url.rsplit("/", 1)[1]).resolve()
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", url], check=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "nibabel", "nilearn"], check=True)
    places.insert(0, clone)
COURSE = next((place for place in places if (place / "data" / "nih.py").exists()), None)
if COURSE is None:
    raise SystemExit(
        "The course is not here. Clone it (see its README) and open this notebook inside the clone, "
        "or set the environment variable COURSE_DIR to the clone's folder and restart the kernel."
    )
sys.path[:0] = [str(Path.cwd()), str(COURSE)]  # a copy of util.py beside the notebook comes first
import models  # noqa: F401  settings of TensorFlow, before it is imported
