"""Reads a bundle as docs/bundles.md says, and with nothing of ClickTune."""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

LISTED = ("input_ids", "token_type_ids", "attention_mask")


class Reader:
    """What the page says, in its order; nothing of ClickTune is used."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text())
        assert self.manifest["schema_version"] == 4
        names = {path.name for path in folder.iterdir()} - {"manifest.json"}
        assert names == set(self.manifest["files"])
        for name, record in self.manifest["files"].items():
            content = (folder / name).read_bytes()
            assert len(content) == record["num_bytes"]
            assert hashlib.sha256(content).hexdigest() == record["sha256"]
        self.features = json.loads((folder / "features.json").read_text())
        self.calibration = json.loads((folder / "calibration.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.features["max_tokens"], strategy="longest_first")
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
        )

    def segments(self, row: Mapping[str, Any]) -> list[str]:
        """Return segment A, or A and B."""
        layout = self.features["layout"]
        texts = []
        for place, name in enumerate(self.features["text"]):
            value = row[name]
            if value is None and place in layout["optional"]:
                value = ""
            text = "; ".join(value) if isinstance(value, list) else value
            if layout["markers"] is not None:
                text = f"{layout['markers'][place]}: {text}" if text.strip() else ""
            texts.append(text)
        first, second = texts[: layout["num_first"]], texts[layout["num_first"] :]
        return [
            part[0] if len(part) == 1 else " ".join(text for text in part if text.strip())
            for part in (first, second)
            if part
        ]

    def text_inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return ids, types and mask."""
        found = [self.tokenizer.encode(*self.segments(row)) for row in rows]
        longest = max(len(each.ids) for each in found)
        inputs = {name: np.zeros((len(rows), longest), np.int64) for name in LISTED}
        for place, each in enumerate(found):
            size = len(each.ids)
            inputs["input_ids"][place, :size] = each.ids
            inputs["token_type_ids"][place, :size] = each.type_ids
            inputs["attention_mask"][place, :size] = 1
        return inputs

    def field_inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return codes and numbers."""
        fields = self.features["fields"]
        codes = [[self.code(field, row) for field in fields["categorical"]] for row in rows]
        numbers = []
        for row in rows:
            found: list[float] = []
            for field in fields["numeric"]:
                value = row[field["name"]]
                if value is None or value == "" or value != value:
                    found += [0, 1]
                    continue
                z = (float(value) - field["center"]) / field["scale"]
                found += [math.copysign(math.log1p(abs(z)), z), 0]
            if fields["time"] is not None:
                found += time_numbers(fields["time"], row[fields["time"]["name"]])
            for pair in fields["comparisons"]:
                values = [row[pair["first"]], row[pair["second"]]]
                if pair["kind"] == "number":
                    found += compared_numbers(*values)
                else:
                    categories = {field["name"] for field in fields["categorical"]}
                    sides = zip((pair["first"], pair["second"]), values, strict=True)
                    texts = [
                        category_text(value) if name in categories else joined(value)
                        for name, value in sides
                    ]
                    found += compared_texts(*texts)
            numbers.append(found)
        return {
            "codes": np.array(codes, np.int64),
            "numbers": np.array(numbers, np.float64).astype(np.float32),
        }

    def code(self, field: Mapping[str, Any], row: Mapping[str, Any]) -> int:
        """Return a category's code."""
        text = category_text(row[field["name"]])
        if not text:
            return 0
        return 2 + field["values"].index(text) if text in field["values"] else 1

    def score(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Return probabilities before calibration."""
        inputs = self.field_inputs(rows)
        if self.features["text"]:
            inputs |= self.text_inputs(rows)
        asked = {node.name: inputs[node.name] for node in self.session.get_inputs()}
        logits = self.session.run(["logits"], asked)[0].astype(np.float64)
        probabilities: np.ndarray = 1 / (1 + np.exp(-logits))
        return probabilities

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Return calibrated probabilities."""
        p = self.score(rows)
        told = self.calibration
        if told["kind"] == "none":
            return p
        if told["kind"] == "isotonic":
            found: np.ndarray = np.interp(p, told["thresholds"], told["values"])
            return found
        p = np.clip(p, 2.220446049250313e-16, 1 - 2.220446049250313e-16)
        log_odds = np.log(p) - np.log(1 - p)
        calibrated: np.ndarray = 1 / (
            1 + np.exp(-(told["slope"] * log_odds + told.get("offset", 0.0)))
        )
        return calibrated


def time_numbers(field: Mapping[str, Any], seconds: float | None) -> list[float]:
    """Return the numbers of a time, given in seconds."""
    found: list[float] = []
    for part in field["parts"]:
        if seconds is None:
            found += [0.0] if part == "age" else [0.0, 0.0]
        elif part == "age":
            span = max(field["last"] - field["first"], 1)
            found.append((seconds - field["first"]) / span)
        else:
            day, weekday = seconds % 86_400 / 86_400, (seconds // 86_400 + 3) % 7 / 7
            angle = 2 * math.pi * (day if part == "hour" else weekday)
            found += [math.sin(angle), math.cos(angle)]
    return found


def compared_numbers(first: float | None, second: float | None) -> list[float]:
    """Compare two numbers."""
    if first is None or second is None:
        return [0, 0, 1]
    largest = max(abs(first), abs(second))
    change = (second - first) / largest if largest else 0.0
    return [change, abs(change), 0]


def category_text(value: Any) -> str:  # noqa: ANN401 - whatever a table holds
    """Return a category's text."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return re.sub(r"^(-?[0-9]+)\.0$", r"\1", text)


def joined(value: str | list[str | None] | None) -> str:
    """Return a text column's text."""
    if isinstance(value, list):
        return "; ".join(text for text in value if text is not None)
    return value or ""


def words_of(text: str) -> list[str]:
    """Return the words that are compared."""
    text = unicodedata.normalize("NFKC", text[:500])
    text = unicodedata.normalize("NFKC", text.casefold()).replace("\u2044", "/")
    kept = ""
    for place, c in enumerate(text):
        around = text[place - 1 : place] + text[place + 1 : place + 2]
        between_digits = len(around) == 2 and all("0" <= d <= "9" for d in around)
        if (c in ".,/" and between_digits) or c.isspace() or unicodedata.category(c)[0] in "LMN":
            kept += c
    return kept.split()


def compared_texts(first: str, second: str) -> list[float]:
    """Compare two texts."""
    words = [words_of(text) for text in (first, second)]
    letters = ["".join(each) for each in words]
    if not all(letters):
        return [0, 0, 0, 1]
    one, other = map(set, words)
    pieces = [{each[i : i + 3] for i in range(max(len(each) - 2, 1))} for each in letters]
    shared, total = len(pieces[0] & pieces[1]), len(pieces[0]) + len(pieces[1])
    overlap = len(one & other) / min(len(one), len(other))
    return [letters[0] == letters[1], overlap, 2 * shared / total, 0]


def check_parity(reader: Reader) -> None:
    """Do what the page asks for before anything else is predicted."""
    parity = reader.manifest["parity"]
    now, then = reader.score(parity["rows"]), np.array(parity["probabilities"])
    distance = np.abs(np.log(now / (1 - now)) - np.log(then / (1 - then)))
    assert distance.max() <= parity["tolerance"]
