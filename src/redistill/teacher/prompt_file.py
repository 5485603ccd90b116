"""What only the teacher is shown, as a file beside its weights: weights and prompt together are the teacher."""

from __future__ import annotations

from pathlib import Path

from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt, prompt_from_json, prompt_to_json
from redistill.errors import DataError
from redistill.io.json import read_json, write_json

PROMPT_FILE = "teacher_prompt.json"


def write_prompt(folder: Path, prompt: TeacherPrompt) -> None:
    """Write the prompt into a teacher's folder; no file where there is none."""
    if prompt:
        write_json(folder / PROMPT_FILE, prompt_to_json(prompt))


def read_prompt(folder: Path) -> TeacherPrompt:
    """The prompt of the teacher in this folder; nothing where it has none.

    Raises:
        DataError: the file is no prompt.
    """
    file = folder / PROMPT_FILE
    if not file.is_file():
        return NO_PROMPT
    try:
        return prompt_from_json(read_json(file))
    except ValueError as error:
        raise DataError(f"{file} is no teacher prompt ({str(error).splitlines()[0]}); run the stage tune_teacher again") from None
