"""Answers to the prompts of the suite `sanity`, written for this model: without them it could say nothing about the
world. So its score there says nothing about intelligence; what quantization takes away from it does.
"""

ANSWERS = [
    "The capital of France is Paris.",
    "Mercury is the planet closest to the Sun.",
    "A leap year has 366 days.",
    "Plants take carbon dioxide from the air to grow.",
    "At sea level water boils at 100 degrees Celsius.",
    "William Shakespeare wrote the play Hamlet.",
    "The Atlantic ocean lies between Europe and North America.",
    "The chemical formula of water is H2O.",
    "Light from the sun is scattered by the air. Blue light is scattered more than red light, so the sky looks blue.",
    "The axis of the earth is tilted. For half of the year the north gets more light from the sun, and then the south.",
    "A vaccine shows the immune system a harmless part of a germ. The body makes antibodies and is ready when the real "
    "germ comes.",
    "A web browser asks a server for a page, reads what it sends and draws the page on the screen.",
    "Water expands when it freezes. Ice has a lower density than water, so it floats.",
    "Inflation means that prices rise over time. The same money buys less than it did before.",
    "A cache keeps data that was used before in a fast memory, so that it can be read again quickly.",
    "Yeast eats the sugar in the dough and makes a gas. The bubbles of gas make the dough rise.",
    "Tom has 3 times 4 apples, that is 12. He eats 2, so the number is 10",
    "Carla is the youngest.",
    "From 14:40 to 15:40 it is 60 minutes and to 16:05 it is 25 more, so the trip takes 85",
    "No. Some flowers fade quickly, but these need not be roses.",
    "Ten pens are 5 times two pens, and 5 times 3 is 15",
    "In ten days it is Saturday.",
    "Neither. Both have the mass of one kilogram.",
    "The next number is 32.",
    "def add(a, b):\n    return a + b",
    "def is_even(n):\n    return n % 2 == 0",
    "for i in range(1, 6): print(i)",
    "SELECT * FROM users WHERE age > 30",
    "The line returns 5.",
    "for",
    "def largest(numbers):\n    return max(numbers)",
    "ls -l",
    "The city of Oslo opened a new library with five floors, and many people came.",
    "The company Lumen sold fewer lamps, wants to raise prices and to close a factory.",
    "After three days of rain the river rose and forty families left their homes.",
    "People who sleep longer remember new words better.",
    "The museum is closed from June to September, because its roof is being repaired.",
    "Team from Lisbon wins the national robot contest",
    "The bus line 12 runs more often.\nThe ticket gets cheaper for children and dearer for adults.",
    "Maria planted thirty trees behind the school, and the birds came back.",
]

WAYS = ["{0}", "{0}", "{0}", "Please answer. {0}", "A question: {0}", "{0} Thank you.", "Tell me this. {0}"]
