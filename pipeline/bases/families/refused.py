"""Families that people ask for and that are not taken: why, and what to take instead.

By the name that a GGUF gives (`general.architecture`) or a config.json (`architectures`).
"""

from __future__ import annotations

EXPERTS = "It is a mixture of experts, whose stacked matrices are not adapted here"
HYBRID = "It remembers by more than attention, in matrices that the converter splits and reorders"
ENCODER = "It is an encoder: it turns texts into numbers and answers nothing"
EYES = "It sees, and its directory holds eyes and language in one"
PARTS = "Its layers share tensors or hold single numbers, which are not read backwards yet"
QWEN, LLAMA = "a dense Qwen 3 (qwen3:8b)", "Llama 3 (llama3.1:8b)"
GEMMA, GRANITE = "Gemma 3 (gemma3:4b)", "Granite 3 (granite3.3:8b)"
MISTRAL, PHI = "Mistral (mistral:7b)", "Phi-4 (phi4:14b)"
TEXT4 = "Gemma 4 as a GGUF or from Ollama (gemma4:e4b), whose eyes are carried along"
TEXT = "Gemma 3 as a GGUF or from Ollama (gemma3:4b), whose eyes are carried along"

REASONS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("qwen2moe", "qwen3moe", "qwen3vlmoe", "qwen35moe"), (EXPERTS, QWEN)),
    **dict.fromkeys(("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"), (EXPERTS, QWEN)),
    **dict.fromkeys(
        ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"), (EXPERTS, QWEN)
    ),
    **dict.fromkeys(("gptoss", "gpt-oss", "GptOssForCausalLM"), (EXPERTS, QWEN)),
    **dict.fromkeys(
        ("deepseek2", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"), (EXPERTS, QWEN)
    ),
    **dict.fromkeys(
        ("glm4moe", "Glm4MoeForCausalLM", "olmoe", "OlmoeForCausalLM"), (EXPERTS, QWEN)
    ),
    **dict.fromkeys(("llama4", "Llama4ForConditionalGeneration"), (EXPERTS, LLAMA)),
    "MixtralForCausalLM": (EXPERTS, MISTRAL),
    **dict.fromkeys(("phimoe", "PhiMoEForCausalLM"), (EXPERTS, PHI)),
    **dict.fromkeys(("granitemoe", "GraniteMoeForCausalLM"), (EXPERTS, GRANITE)),
    **dict.fromkeys(("qwen35", "qwen3next", "Qwen3NextForCausalLM"), (HYBRID, QWEN)),
    **dict.fromkeys(("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"), (HYBRID, QWEN)),
    **dict.fromkeys(("granitehybrid", "GraniteMoeHybridForCausalLM"), (HYBRID, GRANITE)),
    **dict.fromkeys(
        ("falcon-h1", "FalconH1ForCausalLM", "jamba", "mamba", "mamba2"), (HYBRID, LLAMA)
    ),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe", "NemotronHForCausalLM"), (HYBRID, LLAMA)),
    **dict.fromkeys(("lfm2", "Lfm2ForCausalLM"), (HYBRID, LLAMA)),
    **dict.fromkeys(("bert", "nomic-bert", "nomic-bert-moe", "modern-bert"), (ENCODER, LLAMA)),
    **dict.fromkeys(("jina-bert-v2", "jina-bert-v3", "t5encoder", "BertModel"), (ENCODER, LLAMA)),
    **dict.fromkeys(("gemma-embedding", "Gemma3TextModel"), (ENCODER, GEMMA)),
    "Gemma3ForConditionalGeneration": (EYES, TEXT),
    **dict.fromkeys(("mllama", "MllamaForConditionalGeneration"), (EYES, LLAMA)),
    "LlavaForConditionalGeneration": (EYES, LLAMA),
    **dict.fromkeys(("mistral3", "Mistral3ForConditionalGeneration"), (EYES, MISTRAL)),
    **dict.fromkeys(("qwen2vl", "qwen3vl", "Qwen2_5_VLForConditionalGeneration"), (EYES, QWEN)),
    **dict.fromkeys(("gemma3n", "Gemma3nForConditionalGeneration"), (PARTS, GEMMA)),
    **dict.fromkeys(
        ("Gemma4ForConditionalGeneration", "Gemma4UnifiedForConditionalGeneration"), (EYES, TEXT4)
    ),
}


def refusal(architecture: object) -> str:
    """Why a known family is not taken and the nearest that is; '' for one that nobody knows."""
    if not isinstance(architecture, str) or architecture not in REASONS:
        return ""
    why, instead = REASONS[architecture]
    return f"{why}: take {instead}."
