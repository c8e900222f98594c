"""Translates whole corpora, file by file, in one process or on a Ray cluster."""

from ktransformer.corpora.report import Report as Report
from ktransformer.corpora.translating import Progress as Progress
from ktransformer.corpora.translating import translate_corpus as translate_corpus
