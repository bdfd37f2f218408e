"""The tables of a catalogue."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

__all__ = ["APPLICATION_ID", "SCHEMA", "SCHEMA_VERSION", "statements"]

SCHEMA_VERSION = 1
APPLICATION_ID = 0x76636C70  # "vclp"

SCHEMA = """
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE videos (
  id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL, content_hash TEXT NOT NULL, duration REAL NOT NULL, width INTEGER,
  height INTEGER, frame_rate REAL, num_features INTEGER NOT NULL, first_row INTEGER NOT NULL,
  num_windows INTEGER NOT NULL, narration_path TEXT, narration_mtime_ns INTEGER,
  added TEXT NOT NULL);
CREATE INDEX videos_by_content ON videos(content_hash);
CREATE TABLE metadata (
  video INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE, key TEXT NOT NULL, value,
  PRIMARY KEY (video, key)) WITHOUT ROWID;
CREATE TABLE cues (
  id INTEGER PRIMARY KEY, video INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE,
  start REAL NOT NULL, end REAL NOT NULL, text TEXT NOT NULL);
CREATE INDEX cues_by_video ON cues(video, start);
CREATE VIRTUAL TABLE cues_text USING fts5(
  text, content='cues', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2');
CREATE TRIGGER cue_added AFTER INSERT ON cues BEGIN
  INSERT INTO cues_text(rowid, text) VALUES (new.id, new.text); END;
CREATE TRIGGER cue_removed AFTER DELETE ON cues BEGIN
  INSERT INTO cues_text(cues_text, rowid, text) VALUES ('delete', old.id, old.text); END;
"""


def statements(script: str) -> Iterator[str]:
    """Split a script at its statements' ends; `executescript` would commit between them."""
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
