# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put pip into an empty virtual environment without a download site: Python's own pip installs the wanted one.

ansible-test runs what lies in its cache under the name of pip's bootstrap script, with pip's options and packages.
"""

import subprocess
import sys

BOOTSTRAP_ONLY = {"--no-setuptools", "--no-wheel"}

subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
words = [word for word in sys.argv[1:] if word not in BOOTSTRAP_ONLY]
subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True)
