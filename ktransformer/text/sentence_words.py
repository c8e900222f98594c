"""The words that sentences are found by: abbreviations, and words that begin a sentence.

One table serves all languages. It lists what people write; a form with a capital is added where the
word is given in lower case. Dots within an abbreviation are listed, spaces behind them are not.
"""

# ruff: noqa: RUF001

import enum
import functools

import numpy as np
import tensorflow as tf

LONGEST = 11
"""Characters of the longest word that the tables may hold."""
PRIME = 2**31 - 1
"""Hashes are below it."""
_BASE = 1_000_003


class Before(enum.IntEnum):
    """What a word before a full stop, or before a number, says about the stop."""

    UNKNOWN = 0
    NO_END = 1  # The sentence goes on.
    NUMBERED = 2  # It goes on where a number follows.
    MAYBE = 3  # It ends where a word follows that often begins a sentence.
    END = 4  # It ends unless a lower-case letter follows, although the form is an abbreviation's.
    UNIT = 5  # MAYBE behind a number, else NO_END.
    DETERMINER = 6  # A number behind it, with a full stop, is an ordinal.


class Behind(enum.IntEnum):
    """What a word behind a full stop says about the stop."""

    UNKNOWN = 0
    STARTER = 1  # Often begins a sentence.
    COUNTED = 2  # A number with a full stop before it is an ordinal.


_BEFORE = {
    Before.NO_END: """
        dr mr mrs ms messrs prof rev hon gov gen col sgt capt lt cmdr maj adm sen rep pres supt msgr
        mt ft av ap EE vs viz approx ca cf e.g i.e eg ie ibid
        hr hrn fr frl dipl ing med phil habil rer nat jur geb gest vgl bzw bspw ggf evtl inkl zzgl
        sog z.B d.h u.a s.o i.A i.V v.a z.T z.Zt a.D o.g o.ä u.U m.E v.Chr n.Chr zb dh st.-
        mme mmes mlle mlles mm mgr me vve p.ex par.ex c.-à-d av.J env ex
        sr sra srta sres dra dña ud uds vd vds lic ing arq prof profa dra p.ej ej sta sto fray ee
        gral cnel tte fdo
        sig sigg sig.ra sig.na dott dott.ssa dr.ssa prof.ssa avv geom rag on mons ss p.es ad.es es
        cfr v.le p.za c.so
        exmo exma por.ex srs sras eng exa v.exa
        им ул пр просп пер пл наб проф акад доц ред тов т.е т.н т.к т.о напр см ср обл респ
        гос св гр гл кв стр рис табл
        डॉ श्री प्रो पं मो सु कु पी जे बी सी डी टी वी के एम एस एन आर एल एफ एच जी ई.पू
        هـ أ.د
    """,
    Before.NUMBERED: """
        no nos nr nrn núm nº num p pp pg pgs pág págs pag pagg fig figs abb abbn tab art arts kap
        cap caps vol vols sec ch chap bd bde zl par tel col pos ziff abs jh str hauptstr ed eds
        jan feb febr apr aug sept sep oct okt nov dec dez déc dic janv févr juil genn ago
        руб коп п пп ст ч гл т тт № вып nn
    """,
    Before.MAYBE: """
        inc ltd co corp bros llc plc jr sr st ave blvd rd ph.d gmbh kg ag e.V ltda cia cía s.a s.p.a
        s.r.l etc.al al EE.UU dept univ est hw assn mass calif
    """,
    Before.END: """
        a.m p.m etc usw usf etcetera ecc т.д т.п др пр.т и.т.д н.э p.s v.m
    """,
    Before.UNIT: """
        г гг в вв д
    """,
    Before.DETERMINER: """
        am im der den dem des die das vom zum zur beim ab bis seit jeder jede jedes jeden dieser
    """,
}
_BEHIND = {
    Behind.STARTER: """
        The It He She We They This That These Those There In But And If When His Her Their Our My I
        You What Who How Why Where Then Now So As At On For After Before Since Yes No Not Maybe A An
        Nobody Nothing Everyone However Its All Some Many Most Please Did Do Does Is Was Are
        Der Die Das Er Sie Es Wir Ich Ein Eine Dann Danach Dort Hier Jetzt Wer Was Wie Wo Wann Warum
        Aber Und Im Am Doch Auch Nun Niemand Alle Man Seine Seit Ihre Ihr Diese Dieser Dieses Bei
        Mit Nach Für Wenn Als Vielleicht Nur Kein Keine Nicht Bitte Ja Nein Da Deshalb Trotzdem
        Später Le La Les L Il Elle Ils Elles On Un Une Ce Cette Ces C Nous Vous Je J Mais Et Puis
        Après Dans En Pour Tout Son Sa Ses Leur Qui Que Quand Ensuite Aujourd Depuis Selon À Si
        El Los Las Ella Ellos Una Su Sus Pero Y Está Este Esta Esto Eso Se Lo Luego Después
        Cuando Todo Nadie Hay Él Al También Según Fue Era
        Gli Ma E Poi Lui Lei Loro È Questo Questa Dopo Quando Tutto Nessuno Non Ci
        O Os As Um Uma Ele Ela Eles Elas Mas Em Depois Tudo Ninguém Não Foi Eu
        Он Она Они Оно Это Мы Вы Я Но И А В На Теперь Там Так Всё Все Потом Затем После Когда Его Её
        Их Эти Этот Эта Тогда Здесь С По Для Из Если Как Что Кто Никто Не У К Сейчас Поэтому Однако
        ثم هو هي كان لكن هذا هذه
    """,
    Behind.COUNTED: """
        Januar Februar März April Mai Juni Juli August September Oktober November Dezember Jänner
        Jahrhundert Jahrhunderts Jahrtausend Mal Kapitel Klasse Stock Platz Weltkrieg Weltkriegs FC
        Auflage Geburtstag Runde Teil Tag Woche Semester Januari Februari
    """,
}


def _read_tables(tables: dict[enum.IntEnum, str]) -> dict[str, int]:
    words: dict[str, int] = {}
    for kind, text in tables.items():
        for word in text.split():
            words.setdefault(word, int(kind))
            if len(word) > 1:  # A capital alone is an initial.
                words.setdefault(word[0].upper() + word[1:], int(kind))
    return words


@functools.cache
def words_before() -> dict[str, int]:
    """Returns the words that are looked up before a stop: their `Before`."""
    return _read_tables(_BEFORE)


@functools.cache
def words_behind() -> dict[str, int]:
    """Returns the words that are looked up behind a stop: their `Behind`."""
    return _read_tables(_BEHIND)


def hash_word(word: str) -> int:
    """Returns the hash of a word, as `hash_points` finds it: `sum(c[i] * base ** i) % prime`."""
    return sum(ord(c) * pow(_BASE, i, PRIME) for i, c in enumerate(word)) % PRIME


def hash_points(
    points: tf.Tensor, inside: tf.Tensor, skipped: tf.Tensor | None = None
) -> tf.Tensor:
    """Hashes the words of windows.

    Args:
        points: Int32 `[C, W]`, code points.
        inside: Bool `[C, W]`, where they belong to the word.
        skipped: Int32 `[C]`, at most 11, the length of a word that stands before this one in the
            same hash, to which this is added.

    Returns:
        Int64 `[C]`.
    """
    width = points.shape[1]
    powers = tf.constant([pow(_BASE, i, PRIME) for i in range(2 * width)], tf.int64)
    exponents = tf.expand_dims(tf.range(width), 0)
    if skipped is not None:
        exponents = exponents + tf.expand_dims(skipped, 1)
    terms = tf.cast(points, tf.int64) * tf.gather(powers, exponents)
    return tf.reduce_sum(tf.where(inside, terms, tf.zeros_like(terms)), axis=1) % PRIME


def look_up(hashes: tf.Tensor, words: dict[str, int], *, backwards: bool) -> tf.Tensor:
    """Looks words up by binary search.

    Args:
        hashes: Int64 `[C]`, the hashes of words.
        words: The table.
        backwards: The words were read from the last character to the first.

    Returns:
        Int32 `[C]`, the value of the word, 0 where it is not in the table.
    """
    entries = sorted((hash_word(w[::-1] if backwards else w), kind) for w, kind in words.items())
    size = 1 << len(entries).bit_length()
    padding = size - len(entries)
    keys = tf.constant([key for key, _ in entries] + [PRIME] * padding, tf.int64)
    kinds = tf.constant(np.array([kind for _, kind in entries] + [0] * padding, np.int32))
    place = tf.zeros_like(hashes, tf.int32)
    step = size // 2
    while step:
        there = tf.gather(keys, place + step) <= hashes
        place = place + tf.where(there, step, 0)
        step //= 2
    return tf.where(tf.equal(tf.gather(keys, place), hashes), tf.gather(kinds, place), 0)
