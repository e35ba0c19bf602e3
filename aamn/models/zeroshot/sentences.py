"""What the words of a sentence ask of a tube's coordinates: one table of rules, and its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

COLOURS = (
    *("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink"),
    "brown",
)  # the eleven basic colour terms (Berlin and Kay, 1969)
COLOUR_WORDS = {name: name for name in COLOURS} | {
    **dict.fromkeys(("gray", "silver", "silvery"), "grey"),
    **dict.fromkeys(("golden", "blond", "blonde"), "yellow"),
    **dict.fromkeys(("violet", "lilac"), "purple"),
    **dict.fromkeys(("dark",), "black"),
    **dict.fromkeys(("maroon", "scarlet", "crimson"), "red"),
    **dict.fromkeys(("navy", "azure", "turquoise"), "blue"),
    **dict.fromkeys(("tan", "beige", "chestnut"), "brown"),
}
PERSON = (
    *("man", "woman", "boy", "girl", "child", "kid", "baby", "toddler", "infant", "guy", "lady"),
    *("adult", "human", "people", "men", "women", "he", "she", "player", "rider", "cyclist"),
    *(
        "biker",
        "surfer",
        "skater",
        "dancer",
        "runner",
        "driver",
        "gentleman",
        "somebody",
        "someone",
    ),
)
ANIMAL = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
NOUNS: dict[str, tuple[str, ...]] = {  # words that are no class names -> classes, where it has them
    **dict.fromkeys(PERSON, ("person", "adult", "baby")),
    **dict.fromkeys(("baby", "toddler", "infant", "child"), ("baby", "person")),
    **dict.fromkeys(("man", "guy", "adult", "human"), ("person", "adult")),
    **dict.fromkeys(("animal", "pet"), ANIMAL),
    **dict.fromkeys(("vehicle",), ("car", "truck", "bus", "motorcycle")),
    **dict.fromkeys(("automobile", "taxi", "sedan", "jeep"), ("car",)),
    **dict.fromkeys(("van", "lorry", "pickup"), ("truck", "car")),
    **dict.fromkeys(("bike", "bmx", "bicycle"), ("bicycle", "motorcycle")),
    **dict.fromkeys(("motorbike", "scooter", "moped"), ("motorcycle",)),
    **dict.fromkeys(("puppy", "doggy", "hound"), ("dog",)),
    **dict.fromkeys(("kitten", "kitty", "pussycat"), ("cat",)),
    **dict.fromkeys(
        ("swan", "duck", "goose", "pigeon", "parrot", "eagle", "chicken", "crow"), ("bird",)
    ),
    **dict.fromkeys(("pony", "foal"), ("horse",)),
    **dict.fromkeys(("lamb", "goat"), ("sheep",)),
    **dict.fromkeys(("bull", "calf"), ("cow",)),
    **dict.fromkeys(("plane", "jet", "aeroplane"), ("airplane",)),
    **dict.fromkeys(("ship", "yacht", "canoe"), ("boat",)),
    **dict.fromkeys(("ball",), ("ball", "sports ball")),
    **dict.fromkeys(("sofa",), ("couch",)),
    **dict.fromkeys(("phone",), ("cell phone",)),
}
COORDINATES = (
    # place: -1 left and top, 1 right and bottom, of the frame and beside those of the same class
    *("x", "y", "near_x", "near_y", "middle", "near_middle", "size", "near_size"),
    # motion: to the right, down, towards us; how much, as three soft steps that add up to 1
    *("right", "down", "grows", "still", "slow", "fast"),
)
PLACE = COORDINATES[:8]
MOTION = COORDINATES[8:]

_LEFT, _TOP = {"x": -1.0, "near_x": -1.0}, {"y": -1.0, "near_y": -1.0}
_RIGHT, _BOTTOM = {"x": 1.0, "near_x": 1.0}, {"y": 1.0, "near_y": 1.0}
_LARGE, _SMALL = {"size": 0.5, "near_size": 1.5}, {"size": -0.5, "near_size": -1.5}
_STILL = {"still": 1.0, "slow": -0.2, "fast": -1.0}
_SLOW = {"still": -0.6, "slow": 1.0, "fast": 0.2}
_FAST = {"still": -1.0, "slow": 0.2, "fast": 1.0}


def _words(text: str) -> list[str]:
    return text.split()


def _all(words: str, values: Mapping[str, float]) -> dict[str, Mapping[str, float]]:
    return dict.fromkeys(_words(words), values)


RULES: dict[str, Mapping[str, float]] = {  # word -> what it asks of the coordinates
    **_all("left leftmost lefthand", _LEFT),
    **_all("right rightmost righthand", _RIGHT),
    **_all("top upper topmost uppermost", _TOP),
    **_all("bottom lower lowest", _BOTTOM),
    **_all("middle center centre central", {"middle": 1.0, "near_middle": 1.0}),
    **_all("front foreground closest nearest", {"y": 0.4, "size": 0.6, "near_size": 0.8}),
    **_all("back background behind farthest", {"y": -0.4, "size": -0.6, "near_size": -0.8}),
    **_all("largest biggest large big huge", _LARGE),
    **_all("smallest small tiny little", _SMALL),
    **_all("still standing sitting parked lying resting staying sleeping parking", _STILL),
    **_all("stationary motionless waiting posing seated", _STILL),
    **_all(
        "walking strolling crawling creeping eating feeding climbing clambering swimming", _SLOW
    ),
    **_all("floating moving going rolling", _SLOW),
    **_all("running racing sprinting driving drifting flying soaring jumping leaping", _FAST),
    **_all("hopping bouncing riding surfing cycling galloping skating tumbling chasing", _FAST),
    **_all("approaching", {**_SLOW, "grows": 1.0}),
    **_all("leaving", {**_SLOW, "grows": -1.0}),
}
DIRECTIONS: dict[str, Mapping[str, float]] = {  # the same words behind one that moves
    **_all("left leftward leftwards", {"right": -1.5}),
    **_all("right rightward rightwards", {"right": 1.5}),
    **_all("up upward upwards", {"down": -1.0}),
    **_all("down downward downwards", {"down": 1.0}),
    **_all("towards toward forward closer", {"grows": 1.0}),
    **_all("away backward backwards", {"grows": -1.0}),
}
MOVES = {word for word, asked in RULES.items() if asked.get("still", 0) < 0}
BETWEEN = {"to", "the", "towards", "toward", "from", "fast", "slowly", "quickly", "straight"}
NEGATIONS = {"not", "n't", "never", "without"}
# Before a thing that the sentence's own noun is beside, such as "the man in front of a red car".
ASIDE = {"with", "riding", "near", "beside", "behind", "crossing", "holding", "chasing", "of"}


@dataclass
class Asked:
    """What a sentence asks: nouns in their order, colours, and coordinates by name, each with the
    place of its word."""

    nouns: list[int] = field(default_factory=list)
    colours: dict[int, str] = field(default_factory=dict)
    coordinates: dict[int, Mapping[str, float]] = field(default_factory=dict)


def read_sentence(tokens: Sequence[str]) -> Asked:
    """Reads the tokens by the tables; words of no table are candidates for nouns."""
    asked = Asked()
    for place, word in enumerate(tokens):
        sign = -1.0 if NEGATIONS & {*tokens[max(0, place - 2) : place]} else 1.0
        rule = DIRECTIONS.get(word) if _is_direction(tokens, place) else RULES.get(word)
        if rule:
            asked.coordinates[place] = {name: sign * value for name, value in rule.items()}
        elif word in COLOUR_WORDS:
            asked.colours[place] = COLOUR_WORDS[word]
        elif word not in STOP_WORDS and word not in DIRECTIONS:
            asked.nouns.append(place)
    return asked


def _is_direction(tokens: Sequence[str], place: int) -> bool:
    """Whether a word says where something goes rather than where it is."""
    for word in reversed(tokens[:place]):
        if word in MOVES:
            return True
        if word not in BETWEEN:
            return False
    return False


STOP_WORDS = {
    *_words("a an the this that these those is are was be being in on at of to from with and or"),
    *_words("by it his her its their there who which while very only one two some side part up"),
    *_words("down around over into out fast slowly quickly wearing dressed clothes shirt colour"),
    *_words("color coloured air ground floor video frame picture scene outside park wall food"),
    *_words("meal having taking feathered crossing signal upside together something thing object"),
    *NEGATIONS,
}
