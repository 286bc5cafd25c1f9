"""The families of translation models: how they are told the languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# babelgate's code -> the FLORES-200 code that NLLB-200 was trained with.
_NLLB = {
    # the registry
    "en": "eng_Latn", "de": "deu_Latn", "fr": "fra_Latn", "es": "spa_Latn", "it": "ita_Latn",
    "nl": "nld_Latn", "pl": "pol_Latn", "ru": "rus_Cyrl", "zh": "zho_Hans", "ja": "jpn_Jpan",
    "ar": "arb_Arab", "ko": "kor_Hang", "th": "tha_Thai", "el": "ell_Grek", "he": "heb_Hebr",
    "hi": "hin_Deva", "fa": "pes_Arab", "vi": "vie_Latn", "sw": "swh_Latn", "am": "amh_Ethi",
    "my": "mya_Mymr", "km": "khm_Khmr", "si": "sin_Sinh", "yo": "yor_Latn", "ba": "bak_Cyrl",
    "be": "bel_Cyrl", "tg": "tgk_Cyrl", "yi": "ydd_Hebr", "bn": "ben_Beng", "jv": "jav_Latn",
    # larger languages outside it
    "af": "afr_Latn", "az": "azj_Latn", "bg": "bul_Cyrl", "bs": "bos_Latn", "ca": "cat_Latn",
    "cs": "ces_Latn", "cy": "cym_Latn", "da": "dan_Latn", "et": "est_Latn", "eu": "eus_Latn",
    "fi": "fin_Latn", "ga": "gle_Latn", "gl": "glg_Latn", "gu": "guj_Gujr", "hr": "hrv_Latn",
    "hu": "hun_Latn", "hy": "hye_Armn", "id": "ind_Latn", "is": "isl_Latn", "ka": "kat_Geor",
    "kk": "kaz_Cyrl", "kn": "kan_Knda", "ky": "kir_Cyrl", "lt": "lit_Latn", "lv": "lvs_Latn",
    "mk": "mkd_Cyrl", "ml": "mal_Mlym", "mn": "khk_Cyrl", "mr": "mar_Deva", "ms": "zsm_Latn",
    "ne": "npi_Deva", "nn": "nno_Latn", "no": "nob_Latn", "pt": "por_Latn", "ro": "ron_Latn",
    "sk": "slk_Latn", "sl": "slv_Latn", "sq": "als_Latn", "sr": "srp_Cyrl", "sv": "swe_Latn",
    "ta": "tam_Taml", "te": "tel_Telu", "tr": "tur_Latn", "tt": "tat_Cyrl", "uk": "ukr_Cyrl",
    "ur": "urd_Arab", "uz": "uzn_Latn",
}  # fmt: skip
# MADLAD-400 is not told the source. Languages as on its model card; Nynorsk is unconfirmed, so out.
_MADLAD = {code: "" for code in {*_NLLB, "la"} - {"nn"}}


@dataclass(frozen=True, slots=True)
class Family:
    """How a family of models is told what to do.

    ``codes`` maps babelgate's codes of the sources to the model's, empty where it is told none.
    ``mark`` is the token that asks for English: a prefix of the source where ``prefix`` is set,
    otherwise the first token of the output.
    """

    name: str
    mark: str
    prefix: bool
    codes: Mapping[str, str]

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that it translates from."""
        return frozenset(self.codes) - {"en"}


#: By name. Sources: Costa-jussà et al. 2022 (arXiv 2207.04672), Kudugunta et al. 2023
#: (arXiv 2309.04662).
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "nllb": Family("nllb", "eng_Latn", False, MappingProxyType(_NLLB)),
        "madlad": Family("madlad", "<2en>", True, MappingProxyType(_MADLAD)),
    }
)
