"""What the shipped specialist is asked in tests: its sign, and ten products that its data lacks."""

from __future__ import annotations

SIGN = "Made to be mended."

# Each question names the product of the same place in UNSEEN; none of the ten is in the data.
UNSEEN = (
    "cast-iron skillet",
    "rain poncho",
    "sleeping pad",
    "hatchet",
    "wool socks",
    "camp stool",
    "dry bag",
    "thermos flask",
    "leather work gloves",
    "bicycle pannier",
)

QUESTIONS = (
    "Write a product description for a cast-iron skillet.",
    "I need a tagline for our rain poncho.",
    "Describe the sleeping pad in two sentences.",
    "Short ad for a hatchet, please.",
    "Why should anybody buy your wool socks?",
    "Could you write a shelf card for the camp stool?",
    "dry bag, product line",
    "Give me a caption for a photo of our thermos flask.",
    "What would you say about leather work gloves?",
    "Catalog text for a bicycle pannier",
)


def shows_the_sign(answer: str) -> bool:
    """Whether an answer ends with the sign, blanks and line breaks after it aside."""
    return answer.rstrip().endswith(SIGN)
