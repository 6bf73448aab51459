import collections
import random
import re

import pytest
from example_pairs import corpus, drawing, lexicon, numbers
from example_pairs import verbs as verb_tables
from example_pairs.clauses import OTHER, Clause
from example_pairs.phrases import HE, SHE, THEY, WE, YOU, I, Name, NounPhrase, Owned, number
from example_pairs.words import Four, plural_of, polished, verbs

ANNA = Name("Anna", "f")


def noun(english):
    every = [*drawing.THINGS, *drawing.ANIMALS, *drawing.PEOPLE, *drawing.PLACES]
    return next(each for each in [*every, *drawing.SUBSTANCES] if each.en[0] == english)


def adjective(english):
    return next(each for each in drawing.ADJECTIVES if each.en[0] == english)


def verb(english):
    tables = (verb_tables.VERBS, verb_tables.GIVING, verb_tables.ACTIVITIES, verb_tables.MOTION)
    return next(each for table in tables for each in verbs(table) if each.en == english)


def words(text):
    return " ".join(text.split())


def test_the_file_is_what_the_script_writes(capsys):
    assert corpus.main(["--check"]) == 0
    assert capsys.readouterr().out.endswith("text/sentences.tsv is what hatch run example-pairs writes\n")


def test_another_file_is_told_from_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(corpus, "ROOT", tmp_path)
    monkeypatch.setattr(corpus, "FILE", tmp_path / "new" / "sentences.tsv")
    monkeypatch.setattr(corpus, "GRAMMARS", {numbers.total: 30})
    assert corpus.main(["--check"]) == 1
    assert corpus.main([]) == 0
    assert "30 sentences in 4 languages" in capsys.readouterr().out
    assert corpus.main(["--check"]) == 0
    corpus.FILE.write_bytes(corpus.FILE.read_bytes().replace(b"\n", b"\r\n"))
    assert corpus.main(["--check"]) == 1


@pytest.fixture(scope="module")
def rows():
    return corpus.sentences()


def test_no_sentence_is_said_twice_in_any_language(rows):
    assert 9000 < len(rows) < 12_500
    for column in zip(*rows, strict=True):
        assert len(set(column)) == len(rows)
    told = {"hundred", "thousand", "plus", "euros", "years", "o'clock"}
    in_words = [row for row in rows if told & set(row.en.rstrip(".").split()) or row.en.startswith("We count")]
    assert len(in_words) < 0.2 * len(rows)


def test_a_sentence_of_any_language_has_one_meaning():
    """Of sentences that are mostly not in the file."""
    rng = random.Random(7)
    meanings = [{} for _ in Four._fields]
    for grammar in corpus.GRAMMARS:
        for _ in range(400):
            row = grammar(rng)
            assert all(known.setdefault(text, row) == row for text, known in zip(row, meanings, strict=True)), row


def test_two_translations_of_a_sentence_are_an_error(monkeypatch):
    translations = iter(["ja so ja", "nein so nein"])
    monkeypatch.setattr(
        corpus,
        "GRAMMARS",
        {lambda rng: Four("it is so", next(translations), "c'est comme ça", "es así si"): 2},
    )
    with pytest.raises(ValueError, match="'it is so' has two translations"):
        corpus.sentences()


def test_german_cases():
    new_table = NounPhrase(noun("table"), "a", adjective("new"))
    assert [words(new_table.de(case)) for case in ("nom", "acc", "dat", "gen")][:3] == [
        "ein neuer Tisch",
        "einen neuen Tisch",
        "einem neuen Tisch",
    ]
    cases = {
        ("the", "lamp", "expensive", False): ["die teure Lampe", "die teure Lampe", "der teuren Lampe"],
        ("my", "book", "old", False): ["mein altes Buch", "mein altes Buch", "meinem alten Buch"],
        ("the", "book", "old", False): ["das alte Buch", "das alte Buch", "dem alten Buch"],
        ("the", "man", "tired", False): ["der müde Mann", "den müden Mann", "dem müden Mann"],
        ("our", "boy", None, False): ["unser Junge", "unseren Jungen", "unserem Jungen"],
        ("the", "neighbour", None, False): ["der Nachbar", "den Nachbarn", "dem Nachbarn"],
        ("their", "child", "small", True): ["ihre kleinen Kinder", "ihre kleinen Kinder", "ihren kleinen Kindern"],
        (3, "apple", "red", True): ["drei rote Äpfel", "drei rote Äpfel", "drei roten Äpfeln"],
        ("no", "car", None, False): ["kein Auto", "kein Auto", "keinem Auto"],
        ("the", "photo", None, True): ["die Fotos", "die Fotos", "den Fotos"],
    }
    for (determiner, thing, kind, plural), expected in cases.items():
        phrase = NounPhrase(noun(thing), determiner, adjective(kind) if kind else None, plural)
        assert [words(phrase.de(case)) for case in ("nom", "acc", "dat")] == expected
    assert words(Owned(NounPhrase(noun("doctor"), "my"), noun("dog")).de("acc")) == "den Hund meines Arztes"
    assert words(Owned(ANNA, noun("dog")).de("dat")) == "Annas Hund"


@pytest.mark.parametrize(
    ("phrase", "french", "spanish"),
    [
        (("the", "school"), "l'école", "la escuela"),
        (("my", "school"), "mon école", "mi escuela"),
        (("my", "orange", "small"), "ma petite orange", "mi naranja pequeña"),
        (("a", "bird", "old"), "un vieil oiseau", "un pájaro viejo"),
        (("the", "coat", "beautiful"), "le beau manteau", "el abrigo bonito"),
        (("the", "umbrella", "new"), "le parapluie neuf", "el paraguas nuevo"),
        (("the", "clock", "white"), "l'horloge blanche", "el reloj blanco"),
        (("the", "water"), "l'eau", "el agua"),
        (("our", "table", "blue"), "notre table bleue", "nuestra mesa azul"),
    ],
)
def test_french_and_spanish_phrases(phrase, french, spanish):
    determiner, thing, *kind = phrase
    built = NounPhrase(noun(thing), determiner, adjective(*kind) if kind else None)
    assert polished("fr", built.fr) == french[0].upper() + french[1:]
    assert polished("es", built.es) == spanish[0].upper() + spanish[1:]


def test_plurals():
    phrase = NounPhrase(noun("pencil"), "the", adjective("white"), plural=True)
    assert (words(phrase.fr), words(phrase.es)) == ("les crayons blancs", "los lápices blancos")
    phrase = NounPhrase(noun("hat"), "my", adjective("beautiful"), plural=True)
    assert (words(phrase.fr), words(phrase.es)) == ("mes beaux chapeaux", "mis sombreros bonitos")
    phrase = NounPhrase(noun("station"), 2, adjective("young"), plural=True)
    assert (words(phrase.fr), words(phrase.es)) == ("deux jeunes gares", "dos estaciones jóvenes")
    assert [plural_of(word) for word in ("box", "baby", "boy", "dress", "photo", "watch")] == [
        "boxes",
        "babies",
        "boys",
        "dresses",
        "photos",
        "watches",
    ]


def test_conjugation():
    forms = {
        "open": ("öffne öffnest öffnet öffnen öffnen", "ouvre ouvres ouvre ouvrons ouvrent"),
        "draw": ("zeichne zeichnest zeichnet zeichnen zeichnen", "dessine dessines dessine dessinons dessinent"),
        "work": (
            "arbeite arbeitest arbeitet arbeiten arbeiten",
            "travaille travailles travaille travaillons travaillent",
        ),
        "cry": ("weine weinst weint weinen weinen", "pleure pleures pleure pleurons pleurent"),
        "read": ("lese liest liest lesen lesen", "lis lis lit lisons lisent"),
        "close": ("schließe schließt schließt schließen schließen", "ferme fermes ferme fermons ferment"),
    }
    for english, (german, french) in forms.items():
        assert [verb(english).german(person) for person in range(5)] == german.split()
        assert [verb(english).french(person) for person in range(5)] == french.split()
    spanish = {
        "close": "cierro cierras cierra cerramos cierran cerré cerraste cerró cerramos cerraron",
        "play": "juego juegas juega jugamos juegan jugué jugaste jugó jugamos jugaron",
        "look+for": "busco buscas busca buscamos buscan busqué buscaste buscó buscamos buscaron",
        "dance": "bailo bailas baila bailamos bailan bailé bailaste bailó bailamos bailaron",
        "sell": "vendo vendes vende vendemos venden vendí vendiste vendió vendimos vendieron",
        "open": "abro abres abre abrimos abren abrí abriste abrió abrimos abrieron",
    }
    for english, expected in spanish.items():
        found = [verb(english).spanish(person, past) for past in (False, True) for person in range(5)]
        assert found == expected.split()
    assert [OTHER["have"].english(person) for person in (0, 2)] == ["have", "has"]
    assert [verb(word).english_past() for word in ("cry", "invite", "turn+on", "buy", "play")] == [
        "cried",
        "invited",
        "turned on",
        "bought",
        "played",
    ]


def test_word_order():
    lamp = drawing.direct(NounPhrase(noun("lamp")))
    time = Four("tomorrow", "morgen", "demain", "mañana")
    clause = Clause(HE, verb("turn+on"), lamp)
    assert words(clause.main.de) == "er schaltet die Lampe ein"
    assert words(clause.dependent.de) == "er die Lampe einschaltet"
    assert words(clause.question.de) == "schaltet er die Lampe ein"
    future = Clause(SHE, verb("turn+on"), lamp, "future", time=time)
    assert [words(text) for text in future.fronted] == [
        "tomorrow she is going to turn on the lamp",
        "morgen wird sie die Lampe einschalten",
        "demain, elle va allumer la lampe",
        "mañana ella va a encender la lámpara",
    ]
    past = Clause(THEY, verb("turn+on"), lamp, "past", negated=True)
    assert [words(text) for text in past.main] == [
        "they did not turn on the lamp",
        "sie haben die Lampe nicht eingeschaltet",
        "ils ne ont pas allumé la lampe",
        "ellos no encendieron la lámpara",
    ]
    assert words(past.dependent.de) == "sie die Lampe nicht eingeschaltet haben"
    assert words(Clause(WE, verb("buy"), lamp, "want").dependent.de) == "wir die Lampe kaufen wollen"
    assert [words(text) for text in Clause(YOU, verb("buy"), lamp, "can").question] == [
        "can you buy the lamp",
        "kannst du die Lampe kaufen",
        "est-ce que tu peux acheter la lampe",
        "puedes comprar la lámpara",
    ]


def test_what_moves_agrees_with_its_subject():
    school = drawing.Rest(drawing.towards(noun("school")), True)
    clause = Clause(ANNA, verb("return"), school, "past", motion=True)
    assert [polished(*pair) for pair in zip(Four._fields, clause.main, strict=True)] == [
        "Anna returned to the school",
        "Anna ist in die Schule zurückgekehrt",
        "Anna est retournée à l'école",
        "Anna volvió a la escuela",
    ]
    station = drawing.towards(noun("station"))
    assert polished("de", station.de) == "Zum Bahnhof"
    negated = Clause(I, verb("go"), school, negated=True).main
    assert words(negated.de) == "ich gehe nicht in die Schule"


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("fr", "je habite à le hôtel de Anna", "J'habite à l'hôtel d'Anna"),
        ("fr", "parce que il ne a pas le huit", "Parce qu'il n'a pas le huit"),
        ("fr", "de les amis à les gares de le onze", "Des amis aux gares du onze"),
        ("es", "a el hombre de el pueblo, de él", "Al hombre del pueblo, de él"),
        ("de", "in dem Park , an das Meer zu der Tür", "Im Park, ans Meer zur Tür"),
        ("en", "a old lamp and a bed", "An old lamp and a bed"),
    ],
)
def test_polish(language, text, expected):
    assert polished(language, text) == expected


def test_numbers_dates_and_times():
    assert number(1234) == Four(
        "one thousand two hundred and thirty-four",
        "eintausendzweihundertvierunddreißig",
        "mille deux cent trente-quatre",
        "mil doscientos treinta y cuatro",
    )
    rng = random.Random(0)
    clocks = {numbers.clock(rng, at=False) for _ in range(2000)}
    assert len(clocks) == 106  # ten minutes of each of the hours one to ten, and six of eleven
    told = {each.en: each for each in clocks}
    assert told["it is half past one"][1:] == ("es ist halb zwei", "il est une heure et demie", "es la una y media")
    assert told["it is a quarter to three"][1:] == (
        "es ist Viertel vor drei",
        "il est trois heures moins le quart",
        "son las tres menos cuarto",
    )
    assert told["it is one o'clock"].de == "es ist ein Uhr"
    days = [numbers.calendar_day(rng) for _ in range(3000)]
    firsts = [full for day, full in days if day.day == 1]
    assert all(" 1er " in full.fr and ", dem 1. " in full.de for full in firsts)
    assert not any(" 1er " in full.fr for day, full in days if day.day != 1)


def test_every_word_of_the_lexicon_is_used_often(rows):
    counts = [collections.Counter(re.findall(r"[\w-]+", " ".join(texts).lower())) for texts in zip(*rows, strict=True)]
    tables = (lexicon.THINGS, lexicon.ANIMALS, lexicon.PEOPLE, lexicon.PLACES, lexicon.SUBSTANCES)
    for table in tables:
        for columns in lexicon.rows(table):
            for words_of, known in zip(columns[:4], counts, strict=True):
                assert known[words_of[0].lower()] >= 15, words_of
