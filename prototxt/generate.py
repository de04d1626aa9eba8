"""Write prototxt/caffe_pb2.py from prototxt/caffe.proto: ``python -m prototxt.generate [--check]``.

Needs grpcio-tools, which brings the protobuf compiler (``pip install grpcio-tools``).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from prototxt.errors import CaffeError

PACKAGE = Path(__file__).resolve().parent
GENERATED = PACKAGE / "caffe_pb2.py"

# The compiler stamps its own release into its output and refuses every older protobuf at run time. The code it
# writes is the same for all releases this project supports, so the stamp is left out: any of them may generate
# and any of them may import.
STAMP = re.compile(
    r"^# Protobuf Python Version: .*\n"
    r"|^from google\.protobuf import runtime_version as _runtime_version\n"
    r"|^_runtime_version\.ValidateProtobufRuntimeVersion\((?:.|\n)*?^\)\n",
    re.MULTILINE,
)


def generate() -> str:
    """The text of caffe_pb2.py. Raises ImportError without grpcio-tools, CaffeError for a schema with errors."""
    from grpc_tools import protoc  # only whoever changes the schema needs it

    with tempfile.TemporaryDirectory() as folder:
        # Seen from above the package, so that the module registers as prototxt.caffe_pb2.
        status = protoc.main(["protoc", f"-I{PACKAGE.parent}", f"--python_out={folder}", f"{PACKAGE}/caffe.proto"])
        if status != 0:
            raise CaffeError(f"{PACKAGE}/caffe.proto: the protobuf compiler found the errors above; mend them there")
        return STAMP.sub("", (Path(folder) / PACKAGE.name / GENERATED.name).read_text())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or with ``--check`` only compare; 1 when it is out of date."""
    parser = argparse.ArgumentParser(prog="python -m prototxt.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed file and write nothing")
    check = parser.parse_args(argv).check
    text = generate()
    if not check:
        GENERATED.write_text(text)
        return 0
    if GENERATED.read_text() == text:
        return 0
    print(f"{GENERATED} is out of date: run python -m prototxt.generate", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
