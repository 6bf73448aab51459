"""The `ds` command: list what is installed, train it, use it, check it. What it prints and returns: docs/cli.md."""

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ds_core.__about__ import __version__
from ds_core.cli.info import environment_table, folder_table
from ds_core.distributed.failure import PeerError
from ds_core.distributed.processes import TIMEOUT, Processes, current, reported, started_by_torchrun
from ds_core.errors import Interrupted, UserError, did_you_mean, one_line
from ds_core.options import Parser, add_options, build_options
from ds_core.recipes.recipe import Recipe, find_recipe, installed_commands, installed_recipes
from ds_core.recipes.run import seed_everything
from ds_core.speed.plain import is_plain, plain
from ds_core.training.process_settings import dedicate_process
from ds_core.training.run_folder import RECIPE_FILE, read_run_folder, resumed_options
from ds_core.training.run_options import RunOptions

USAGE = """\
usage: ds COMMAND ...

  ds list                        the recipes that are installed
  ds train RECIPE [options]      train it; ds train RECIPE --help lists its options
{commands}  ds check RECIPE                compare its handwritten gradients with autograd's
  ds info [FOLDER]               versions and devices; what a run folder holds

FOLDER is the run folder of ds train, or a recipe's name for its own.
ds --version, ds --help; ds --debug COMMAND ... (or DS_DEBUG=1) shows where an error comes from
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ds` with these arguments (default: the command line's) and return its exit status.

    0: done; 1: something went wrong on the way (a loss that is not finite, a full disk, a check that fails);
    2: arguments or inputs that cannot be used; 130: stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = os.environ.get("DS_DEBUG", "") not in ("", "0")
    if words[:1] == ["--debug"]:
        debug, words = True, words[1:]
    if hasattr(sys.stdout, "reconfigure"):  # what cannot show a character shows a question mark; stderr escapes it
        sys.stdout.reconfigure(errors="replace")
    if arguments is None and words[:1] == ["train"] and started_by_torchrun():
        return _train_together(words, debug)
    return _status(lambda: _run(words, own_process=arguments is None), debug)


def _train_together(words: list[str], debug: bool) -> int:
    """One of several processes: if the run fails, one of them says why, and each ends at once."""

    def run() -> int:
        with Processes(timeout=float(os.environ.get("DS_TIMEOUT", TIMEOUT))):
            return _run(words, own_process=True)

    sys.stdout = sys.stdout if int(os.environ["RANK"]) == 0 else open(os.devnull, "w")  # noqa: SIM115 - until the end
    try:
        status = _status(run, debug)
    except Exception:
        traceback.print_exc()
        status = 1
    if status != 0:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what torch.distributed would clean up waits for processes that are gone
    return status


def _status(run: Callable[[], int], debug: bool) -> int:
    """Call `run`, say what went wrong unless another process has, and return the exit status."""
    try:
        status = run()
        sys.stdout.flush()
        return status
    except SystemExit as finished:  # argparse after --help
        return finished.code if isinstance(finished.code, int) else 0
    except KeyboardInterrupt as stop:
        text = f"ds: {stop}" if isinstance(stop, Interrupted) else "ds: stopped"
        return 130 if reported(stop) else _complain(text, 130)
    except BrokenPipeError:  # ds list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not reported(error):
            if debug or not isinstance(error, (UserError, OSError)):
                raise
            _complain(f"ds: error: {one_line(error)}", 1)
        return int(getattr(error, "exit_status", 1))


def _run(words: list[str], own_process: bool) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {
        "list": _list,
        "train": lambda words: _train(words, own_process),
        "check": _check,
        "info": _info,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        lines = [f"  {f'ds {name} FOLDER [options]':31}{summary}\n" for name, summary in installed_commands().items()]
        print(USAGE.format(commands="".join(lines)), end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"ds {__version__}")
        return 0
    if words[0] in commands:
        return commands[words[0]](words[1:])
    others = installed_commands()
    if words[0] in others:
        return _command(words[0], words[1:])
    raise UserError(f"unknown command {words[0]!r}{did_you_mean(words[0], [*commands, *others])} (see ds --help)")


def _list(words: list[str]) -> int:
    Parser(prog="ds list", description="The recipes that are installed.").parse(words)
    recipes = installed_recipes()
    if not recipes:
        print("no recipes are installed")
    width = max([0, *map(len, recipes)])
    for name, installed in recipes.items():
        try:
            summary = installed.load().summary
        except UserError as error:
            summary = one_line(error)
        print(f"{name:{width}}  {summary}  [{installed.package} {installed.version}]")
    return 0


def _train(words: list[str], own_process: bool) -> int:
    recipe, words = _recipe("train", words)
    parser = Parser(prog=f"ds train {recipe.name}", description=recipe.summary)
    add_options(parser, recipe.options)
    given = parser.parse(words)
    kind: Any = recipe.options
    if issubclass(kind, RunOptions) and given.get("resume") and not given.get("overwrite"):
        folder = given.get("out", kind().out)
        began = read_run_folder(folder).recipe
        if began != recipe.name:  # said before its options are read, which are another recipe's
            raise UserError(f"{folder} holds a run of {began}, not of {recipe.name}")
        options = resumed_options(kind, folder, given)
    else:
        options = build_options(kind, given)
    if own_process:  # not if another program calls main; after the recipe's imports, which it sets aside
        dedicate_process()
    written = _written(options)
    try:
        recipe.train(options)
    except (KeyboardInterrupt, PeerError) as stop:
        if not isinstance(options, RunOptions) or reported(stop):
            raise
        whole = isinstance(stop, (Interrupted, PeerError))
        if not whole and not options.resume and _written(options) == written:
            raise  # the run has not begun; what is in the folder is another
        several = current().world_size
        ds = "ds" if several == 1 else f"torchrun --nproc-per-node {several} -m ds_core.cli"
        command = f"to continue: {ds} train {recipe.name} --out {shlex.quote(str(options.out))} --resume"
        if isinstance(stop, PeerError):
            raise PeerError(f"{stop}; {command}") from None
        raise Interrupted(f"{stop if whole else 'stopped'}\nds: {command}") from None
    return 0


def _written(options: Any) -> int | None:
    """When the record in the run folder was written; None if there is none."""
    path = options.out / RECIPE_FILE if isinstance(options, RunOptions) else None
    return path.stat().st_mtime_ns if path is not None and path.exists() else None


def _command(name: str, words: list[str]) -> int:
    """`ds NAME FOLDER [options]`, a command that the recipe of the folder brings."""
    if words[:1] in (["-h"], ["--help"]):
        print(f"usage: ds {name} FOLDER [options]\n\nds {name} FOLDER --help lists the options of the folder's recipe")
        return 0
    if not words or words[0].startswith("-"):
        raise UserError(f"{name} with what? ds {name} FOLDER [options]; FOLDER is the run folder of ds train")
    folder = _find_run_folder(name, words[0])
    recipe = find_recipe(read_run_folder(folder).recipe)
    command = next((command for command in recipe.commands if command.name == name), None)
    if command is None:
        others = ", ".join(f"ds {command.name}" for command in recipe.commands) or "nothing"
        raise UserError(f"{folder} holds a run of {recipe.name}, which has no ds {name}; it has {others}")
    description = f"With the {recipe.name} in {folder}: {command.summary}."
    parser = Parser(prog=f"ds {name} {words[0]}", description=description)
    add_options(parser, command.options)
    command.run(folder, build_options(command.options, parser.parse(words[1:])))
    return 0


def _check(words: list[str]) -> int:
    recipe, words = _recipe("check", words)
    parser = Parser(prog=f"ds check {recipe.name}", description=f"Check the gradients of {recipe.name}.")
    text = "check the plain forms, the equations as the pages write them, instead of the fast ones"
    parser.add_argument("--plain", action="store_true", help=text)
    form = plain() if parser.parse(words)["plain"] else nullcontext()
    if recipe.check is None:
        raise UserError(f"recipe {recipe.name} has no check")
    try:
        seed_everything(0)  # the same numbers each time, fast and plain
        with form:
            found = recipe.check()
            if is_plain():
                print("with the plain form of every operation:")
    except AssertionError as error:
        return _complain(f"ds: {recipe.name} fails its check: {error}", 1)
    print(found)
    return 0 if getattr(found, "ok", True) else 1


def _info(words: list[str]) -> int:
    parser = Parser(prog="ds info", description="Versions and devices, or what a run folder holds.")
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="a run folder")
    folder = parser.parse(words)["folder"]
    table = environment_table() if folder is None else folder_table(folder)
    width = max(len(name) for name, _ in table)
    for name, value in table:
        print(f"{name:{width}}  {value}")
    return 0


def _recipe(command: str, words: list[str]) -> tuple[Recipe, list[str]]:
    """The recipe that the first word names, and the other words."""
    names = ", ".join(installed_recipes()) or "none"
    if words[:1] in (["-h"], ["--help"]):
        print(
            f"usage: ds {command} RECIPE [options]\n\ninstalled: {names}; ds {command} RECIPE --help lists the options"
        )
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        raise UserError(f"{command} what? ds {command} RECIPE [options]; installed: {names}")
    return find_recipe(words[0]), words[1:]


def _find_run_folder(command: str, name: str) -> Path:
    """The folder of that name, or the default folder of the recipe of that name."""
    looked = [Path(name)]
    if name in installed_recipes():
        options: Any = find_recipe(name).options()
        if isinstance(options, RunOptions):
            looked.append(options.out)
    for folder in looked:
        if (folder / RECIPE_FILE).is_file():
            return folder
    known = "" if len(looked) > 1 else did_you_mean(name, installed_recipes())
    raise UserError(f"no run to {command} with: looked for {RECIPE_FILE} in {', '.join(map(str, looked))}{known}")


def _complain(text: str, status: int) -> int:
    # beside rank 0's progress bar, which is still open, another rank begins a line of its own
    beside = started_by_torchrun() and os.environ["RANK"] != "0"
    print("\n" * beside + text, file=sys.stderr)
    return status
