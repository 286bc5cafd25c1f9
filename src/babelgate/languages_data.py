"""Tables behind :mod:`babelgate.languages`: what each language is called, written in and its share.

``share`` is the percentage of pages of the crawl CC-MAIN-2026-04 whose primary language it is, from
the file ``plots/languages.csv`` of github.com/commoncrawl/cc-crawl-statistics.
"""

from __future__ import annotations

# code: (name, script, tier, share in %, other codes that mean the same)
REGISTRY: dict[str, tuple[str, str, str, float, tuple[str, ...]]] = {
    "en": ("English", "Latin", "high", 41.6958, ("eng",)),
    "de": ("German", "Latin", "high", 5.9575, ("deu", "ger")),
    "fr": ("French", "Latin", "high", 4.6724, ("fra", "fre")),
    "es": ("Spanish", "Latin", "high", 4.6206, ("spa",)),
    "it": ("Italian", "Latin", "high", 2.4109, ("ita",)),
    "nl": ("Dutch", "Latin", "high", 1.7923, ("nld", "dut")),
    "pl": ("Polish", "Latin", "high", 2.0273, ("pol",)),
    "ru": ("Russian", "Cyrillic", "high", 6.2629, ("rus",)),
    "zh": ("Chinese", "Han", "high", 4.9284, ("zho", "chi", "cmn")),
    "ja": ("Japanese", "Japanese", "high", 5.7733, ("jpn", "jp")),
    "ar": ("Arabic", "Arabic", "mid", 0.6630, ("ara", "arb")),
    "ko": ("Korean", "Hangul", "mid", 0.7923, ("kor",)),
    "th": ("Thai", "Thai", "mid", 0.3928, ("tha",)),
    "el": ("Greek", "Greek", "mid", 0.5367, ("ell", "gre")),
    "he": ("Hebrew", "Hebrew", "mid", 0.2544, ("heb", "iw")),
    "hi": ("Hindi", "Devanagari", "mid", 0.2238, ("hin",)),
    "fa": ("Persian", "Arabic", "mid", 0.1949, ("fas", "per", "pes")),
    # Above 1 % in recent crawls only (0.75 % in 2018): at the border, kept with its neighbours.
    "vi": ("Vietnamese", "Latin", "mid", 1.0981, ("vie",)),
    "sw": ("Swahili", "Latin", "low", 0.0126, ("swa", "swh")),
    "am": ("Amharic", "Ethiopic", "low", 0.0044, ("amh",)),
    "my": ("Burmese", "Myanmar", "low", 0.0185, ("mya", "bur")),
    "km": ("Khmer", "Khmer", "low", 0.0112, ("khm",)),
    "si": ("Sinhala", "Sinhala", "low", 0.0103, ("sin",)),
    "yo": ("Yoruba", "Latin", "low", 0.0016, ("yor",)),
    "ba": ("Bashkir", "Cyrillic", "low", 0.0020, ("bak",)),
    "be": ("Belarusian", "Cyrillic", "low", 0.0161, ("bel",)),
    "tg": ("Tajik", "Cyrillic", "low", 0.0069, ("tgk",)),
    "yi": ("Yiddish", "Hebrew", "low", 0.0024, ("yid", "ydd", "ji")),
    # At the border with mid; listed as low by MultiJail (Deng et al. 2024), whose prompts use it.
    "bn": ("Bengali", "Bengali", "low", 0.1104, ("ben",)),
    "jv": ("Javanese", "Latin", "low", 0.0045, ("jav", "jw")),
}

# Shares (%) of languages outside the registry that identification must tell from those inside.
OTHER_SHARES: dict[str, float] = {
    "af": 0.0100, "az": 0.0582, "bg": 0.2568, "bs": 0.0583, "ca": 0.2039, "cs": 1.1411,
    "cy": 0.0107, "da": 0.5082, "et": 0.1400, "eu": 0.0365, "fi": 0.3632, "ga": 0.0062,
    "gl": 0.0359, "gu": 0.0125, "hr": 0.2164, "hu": 0.5139, "hy": 0.0320, "id": 1.1485,
    "is": 0.0354, "ka": 0.0438, "kk": 0.0376, "kn": 0.0195, "ky": 0.0106, "la": 0.1164,
    "lt": 0.1749, "lv": 0.0900, "mk": 0.0362, "ml": 0.0285, "mn": 0.0167, "mr": 0.0326,
    "ms": 0.0831, "ne": 0.0574, "nn": 0.0143, "no": 0.3194, "pt": 2.4562, "ro": 0.5339,
    "sk": 0.3947, "sl": 0.1318, "sq": 0.0502, "sr": 0.2505, "sv": 0.6889, "ta": 0.0497,
    "te": 0.0220, "tr": 1.1990, "tt": 0.0073, "uk": 0.6956, "ur": 0.0319, "uz": 0.0253,
}  # fmt: skip

# Code points of the scripts that matter here, as (first, last, script); all else is ignored.
SCRIPT_RANGES: tuple[tuple[int, int, str], ...] = (
    (0x0041, 0x005A, "Latin"),
    (0x0061, 0x007A, "Latin"),
    (0x00C0, 0x024F, "Latin"),
    (0x0370, 0x03FF, "Greek"),
    (0x0400, 0x052F, "Cyrillic"),
    (0x0531, 0x0589, "Armenian"),
    (0x0591, 0x05F4, "Hebrew"),
    (0x0600, 0x06FF, "Arabic"),
    (0x0750, 0x077F, "Arabic"),
    (0x0900, 0x097F, "Devanagari"),
    (0x0980, 0x09FF, "Bengali"),
    (0x0A00, 0x0A7F, "Gurmukhi"),
    (0x0A80, 0x0AFF, "Gujarati"),
    (0x0B00, 0x0B7F, "Oriya"),
    (0x0B80, 0x0BFF, "Tamil"),
    (0x0C00, 0x0C7F, "Telugu"),
    (0x0C80, 0x0CFF, "Kannada"),
    (0x0D00, 0x0D7F, "Malayalam"),
    (0x0D80, 0x0DFF, "Sinhala"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x0F00, 0x0FFF, "Tibetan"),
    (0x1000, 0x109F, "Myanmar"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x139F, "Ethiopic"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1E00, 0x1EFF, "Latin"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x2D80, 0x2DDF, "Ethiopic"),
    (0x3005, 0x3007, "Han"),
    (0x3041, 0x30FF, "Kana"),
    (0x3130, 0x318F, "Hangul"),
    (0x31F0, 0x31FF, "Kana"),
    (0x3400, 0x9FFF, "Han"),
    (0xA9E0, 0xA9FE, "Myanmar"),
    (0xAA60, 0xAA7F, "Myanmar"),
    (0xAC00, 0xD7AF, "Hangul"),
    (0xF900, 0xFAFF, "Han"),
    (0xFB1D, 0xFB4F, "Hebrew"),
    (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFC, "Arabic"),
    (0xFF21, 0xFF5A, "Latin"),
    (0xFF66, 0xFF9F, "Kana"),
    (0x20000, 0x3134F, "Han"),
)

# Which of py3langid's labels are written in a script; Latin is the rest plus LATIN_TOO.
SCRIPT_LABELS: dict[str, tuple[str, ...]] = {
    "Arabic": ("ar", "ary", "arz", "fa", "ur", "ps", "ug", "sdh", "ku", "uzs"),
    "Armenian": ("hy",),
    "Bengali": ("bn", "as"),
    "Cyrillic": ("ru", "be", "ba", "tg", "uk", "bg", "mk", "sr", "kk", "ky", "tt", "mn", "uz"),
    "Devanagari": ("hi", "mr", "ne", "sa", "gom"),
    "Ethiopic": ("am",),
    "Georgian": ("ka",),
    "Greek": ("el", "grc"),
    "Gujarati": ("gu",),
    "Gurmukhi": ("pa",),
    "Han": ("zh", "wuu", "yue", "ja"),
    "Hangul": ("ko",),
    "Hebrew": ("he", "hbo"),
    "Kana": ("ja",),
    "Kannada": ("kn",),
    "Khmer": ("km",),
    "Lao": ("lo",),
    "Malayalam": ("ml",),
    "Myanmar": ("my",),
    "Oriya": ("or",),
    "Sinhala": ("si",),
    "Tamil": ("ta",),
    "Telugu": ("te",),
    "Thai": ("th",),
    "Tibetan": ("dz",),
}
LATIN_TOO = frozenset({"sr", "uz", "ku"})

# Written varieties that a prompt set files under one code, and labels that are no language.
VARIETIES: dict[str, str] = {
    "wuu": "zh", "yue": "zh", "ary": "ar", "arz": "ar", "grc": "el", "hbo": "he", "uzs": "uz",
}  # fmt: skip
NO_LANGUAGE = frozenset({"zxx"})

# Frequent Yiddish words that no Hebrew text contains in this spelling, and the other way round.
# The vowel signs that standard Yiddish orthography adds are removed before comparing.
_YIDDISH = (
    "און איז די דער דאס דאָס פון צו מיט ניט נישט ווי וואס וועט האט האבן מיר אויף פאר קען מען"
    " ווען פֿון וואָס זיך אן וואו ווו דארף דיר אונז זענען זיי ביי אויך נאך אבער אזוי"
)
_HEBREW = (
    "את של על לא זה זו אני הוא היא עם כל גם מה הם יש כדי איך אל או אם כמה איפה למה רוצה צריך"
    " אפשר שלי שלך לי הזה הזאת אבל כאשר ליד"
)
YIDDISH_WORDS = frozenset(_YIDDISH.split())
HEBREW_WORDS = frozenset(_HEBREW.split())
