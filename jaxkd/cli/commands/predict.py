"""``jaxkd predict``."""

from jaxkd import runs
from jaxkd._errors import InvalidInputError
from jaxkd._files import check_free, write_whole
from jaxkd._messages import announce
from jaxkd._text import count
from jaxkd.cli._console import Console
from jaxkd.cli._options import Predict


def run(options: Predict, arguments: list[str]) -> None:
    """Classify pictures and write a file of predictions."""
    del arguments
    out = options.out
    kind = out.suffix.lower().removeprefix(".")
    if kind not in ("csv", "jsonl"):
        raise InvalidInputError(
            f"--out {out} must end in .csv or .jsonl", argument="out"
        )
    check_free(out, "--out", argument="out")
    announce(f"loading {options.run}")
    loaded = runs.load_network(options.run, trial=options.trial)
    announce("classifying")
    found = runs.predict(loaded, options.images, batch_size=options.batch_size)
    text = runs.format_predictions(found, kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Names of files may be no valid text.
    write_whole(out, text.encode("utf-8", "surrogateescape"))
    Console().tell(
        f"predictions of {loaded.network.model} ({loaded.version}) for "
        f"{count(len(found), 'picture')} are in {out}"
    )
